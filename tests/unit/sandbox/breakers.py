"""Programs that want to break out, to stay, or to take all that the machine has.

Each entry: name -> (program, test, result or results to choose from, words of its line).
"""

TEST = "assert f(3) == 17"
BREAKERS = {}


def breaker(name, result, words, program, test=TEST):
    BREAKERS[name] = (program, test, result, words)


breaker("no Python", "error", "SyntaxError", "def f(x) return 17")
breaker("a NUL byte", "error", "null byte", "def f(x): return 17\0")
breaker("half a character", "error", "surrogates", "def f(x): return '\ud800'")
breaker("nothing", "error", "name 'f' is not defined", "")
breaker("brackets without end", "error", "", "f = " + "(" * 50000)
breaker("sleep while imported", "timeout", "no result after", "import time; time.sleep(1e6)")
breaker(
    "a loop that ignores all signals", "timeout", "1 s of CPU",
    "import signal\nfor s in set(signal.Signals) - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
    "def f(x):\n while True: pass",
)  # fmt: skip
breaker("sleep", "timeout", "no result after", "import time\ndef f(x): time.sleep(1e6)")
breaker(
    "a stopped process", "timeout", "no result after",
    "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGSTOP)",
)  # fmt: skip
breaker(
    "numbers without end", "timeout", "no result after",
    "def f(x):\n while True: yield 17", "assert list(f(3)) == [17]",
)  # fmt: skip
breaker(
    "equal hashes", "timeout", "no result after",
    "import os, sys\nplain = sys.modules['avr.sandbox.inside.plain']\n"
    "def f(x):\n"
    " body = plain.encode([n * (2**61 - 1) for n in range(60000)], 2**20, str)\n"
    " data = plain.encode((True, 0, ()), 99, str)\n"
    " data = data.replace(plain.encode(0, 9, str), b'S' + body[1:])\n"
    " for fd in range(3, 9):\n"
    "  try: os.write(fd, len(data).to_bytes(4, 'little') + data)\n"
    "  except OSError: pass\n",
)  # fmt: skip
breaker(
    "a fork bomb", "error", "BlockingIOError", "import os\ndef f(x):\n while True: os.fork()",
)  # fmt: skip
breaker(
    "a fork bomb that goes on", "timeout", "no result after",
    "import os\ndef f(x):\n while True:\n  try: os.fork()\n  except OSError: pass",
)  # fmt: skip
breaker(
    "threads without end", "error", "can't start new thread",
    "import threading, time\ndef f(x):\n"
    " while True: threading.Thread(target=time.sleep, args=(99,)).start()",
)  # fmt: skip
breaker("a memory bomb", "error", "MemoryError", "def f(x):\n a = [0]\n while True: a = a + a")
breaker(
    "a large map", "error", "Cannot allocate memory",
    "import mmap\ndef f(x): return len(mmap.mmap(-1, 2**32))",
)  # fmt: skip
breaker(
    "memory in files without a name", "error", "Operation not permitted",
    "import os\ndef f(x): return os.memfd_create('a')",
)  # fmt: skip
breaker(
    "shared memory", "failed", "returned -1",
    "import ctypes\ndef f(x): return ctypes.CDLL(None).shmget(0, 2**30, 0o1600)",
)  # fmt: skip
breaker(
    "an output flood", "failed", "returned 0",
    "def f(x):\n for _ in range(50): print('a' * 10**6)\n return 0",
)  # fmt: skip
breaker(
    "a large file", "error", "File too large",
    "def f(x):\n with open('/tmp/a', 'wb') as file:\n  while True: file.write(bytes(2**20))",
)  # fmt: skip
breaker(
    "many files", "error", "No space left",
    "def f(x):\n for n in range(99):\n  with open(f'/tmp/{n}', 'wb') as file:"
    " file.write(bytes(2**20))",
)  # fmt: skip
breaker(
    "many open files", "error", "Too many open files",
    "def f(x): return [open('/dev/null') for _ in range(999)]",
)  # fmt: skip
breaker(
    "the machine's users", "error", "No such file", "def f(x): return open('/etc/passwd').read()"
)
breaker(
    "all folders", "failed", "",
    "import os\ndef f(x): return [os.path.isdir(d) for d in ('/home', '/etc', '/proc', '/sys')]",
    "assert f(3) != [False] * 4",
)  # fmt: skip
breaker(
    "what was there before", "failed", "returned [];",
    "import os\ndef f(x): return os.listdir('/tmp')",
)  # fmt: skip
breaker(
    "a file beside its own", "error", "Errno",
    "def f(x): return open('/file', 'w')",
)  # fmt: skip
breaker(
    "a change of the interpreter", "error", "Errno",
    "import os\ndef f(x): return open(os.__file__, 'a')",
)  # fmt: skip
breaker(
    "a link to the machine", "error", "No such file",
    "import os\ndef f(x): os.symlink('/etc/passwd', '/tmp/a'); return open('/tmp/a').read()",
)  # fmt: skip
breaker("the environment", "failed", "returned {};", "import os\ndef f(x): return dict(os.environ)")
breaker(
    "a connection", "error", "Network is unreachable",
    "import socket\ndef f(x): socket.create_connection(('1.1.1.1', 53), timeout=5)",
)  # fmt: skip
breaker(
    "the loopback", "error", "",
    "import socket\ndef f(x): socket.create_connection(('127.0.0.1', 22), timeout=5)",
)  # fmt: skip
breaker(
    "a host's address", "error", "gaierror",
    "import socket\ndef f(x): return socket.gethostbyname('example.com')",
)  # fmt: skip
breaker(
    "a shell", "error", "No such file",
    "import subprocess\ndef f(x): return subprocess.check_output(['/bin/sh', '-c', 'id'])",
)  # fmt: skip
LIBC = "import ctypes\nlibc = ctypes.CDLL(None)\n"
breaker(
    "a mount", "failed", "returned -1",
    LIBC + "def f(x): return libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
)  # fmt: skip
breaker(
    "another user namespace", "failed", "returned -1",
    LIBC + "def f(x): return libc.unshare(0x10000000)",
)  # fmt: skip
breaker(
    "a child in another user namespace", "failed", "returned -1",
    LIBC + "def f(x): return libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)",
)  # fmt: skip
breaker("another root", "error", "not permitted", "import os\ndef f(x): os.chroot('/tmp')")
breaker("another user", "error", "Errno", "import os\ndef f(x): os.setuid(0)")
breaker(
    "a higher limit", "error", "", "import resource\ndef f(x):\n"
    " resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))",
)  # fmt: skip
breaker("all processes", "error", "No such process", "import os\ndef f(x): os.kill(-1, 9)")
breaker(
    "a daemon", "failed", "returned 0",
    "import os, time\ndef f(x):\n if os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n"
    "   os.closerange(0, 64)\n   time.sleep(1e6)\n  os._exit(0)\n return 0",
)  # fmt: skip
breaker(
    "a daemon that holds the channel", "killed", "status 0",
    "import os, time\ndef f(x):\n if os.fork() == 0:\n  os.setsid()\n  time.sleep(1e6)\n"
    " os._exit(0)",
)  # fmt: skip
breaker(
    "threads left behind", "failed", "returned 0",
    "import threading, time\nfor _ in range(3):\n"
    " threading.Thread(target=time.sleep, args=(1e6,)).start()\n"
    "def f(x): return 0",
)  # fmt: skip
breaker(
    "a crash", "killed", "signal 11", "import ctypes\ndef f(x): return ctypes.string_at(0)",
)  # fmt: skip
breaker("an abort", "killed", "signal", "import os\ndef f(x): os.abort()")
breaker("a recursion", "error", "RecursionError", "def f(x): return f(x)")
breaker(
    "a recursion without a limit", "error|timeout|killed", "",
    "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x) + 1",
)  # fmt: skip
breaker("a question", "error", "EOFError", "def f(x): return input()")
