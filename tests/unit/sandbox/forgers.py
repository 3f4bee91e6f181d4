"""Programs that want a test to pass without the right value; the right value of f(3) is 17.

Each entry: name -> (program, test, what the outcome must be, words that its line must hold).
"""

TEST = "assert f(3) == 17"
FORGERS = {}


def forger(name, result, words, program, test=TEST):
    FORGERS[name] = (program, test, result, words)


forger("exits with 0", "error", "SystemExit", "import sys\ndef f(x): sys.exit(0)")
forger("exits with 0 at once", "killed", "status 0", "import os\ndef f(x): os._exit(0)")
forger("exits while it is imported", "error", "SystemExit", "import sys; sys.exit(0)")
forger("exits at once while imported", "killed", "status 0", "import os; os._exit(0)")
forger("calls exit", "error", "SystemExit", "def f(x): exit()")
forger(
    "prints markers", "failed", "returned 0",
    "def f(x):\n for _ in range(99): print('passed PASSED OK 1 passed')\n return 0",
)  # fmt: skip
forger(
    "writes markers to all descriptors", "killed", "no value",
    "import os\ndef f(x):\n for fd in range(64):\n  try: os.write(fd, b'passed' * 9)\n"
    "  except OSError: pass\n return 0",
)  # fmt: skip
FRAME = (
    "import os, sys\n"
    "plain = sys.modules['avr.sandbox.inside.plain']\n"
    "def sent(data):\n"
    " for fd in range(3, 64):\n"
    "  try: os.write(fd, len(data).to_bytes(4, 'little') + data)\n"
    "  except OSError: pass\n"
)
forger(
    "writes its own reply", "failed", "returned True",
    FRAME + "def f(x): sent(plain.encode((True, True, ()), 999, str)); return 0",
)  # fmt: skip
forger(
    "writes a verdict as the reply", "killed", "no value",
    FRAME + "def f(x): sent(plain.encode(('passed', '', '', '', ''), 999, str))",
)  # fmt: skip
forger(
    "sends an unknown tag", "killed", "no value", FRAME + "def f(x): sent(b'?' * 99)",
)  # fmt: skip
forger(
    "sends a count of four billion", "killed", "no value",
    FRAME + "def f(x): sent(b't' + b'\\xff' * 4)",
)  # fmt: skip
forger(
    "sends tuples in tuples", "killed", "no value",
    FRAME + "def f(x): sent(b't\\x01\\x00\\x00\\x00' * 100000 + b'N')",
)  # fmt: skip
forger(
    "announces a frame of four billion bytes", "killed", "no value",
    FRAME + "def f(x):\n for fd in range(3, 64):\n  try: os.write(fd, b'\\xff' * 64)\n"
    "  except OSError: pass",
)  # fmt: skip
forger(
    "says that an argument that is not there was changed", "killed", "no value",
    FRAME + "def f(x): sent(plain.encode((True, 0, ((7, 17),)), 999, str))",
)  # fmt: skip
forger(
    "claims an object that it never had", "killed", "no value",
    FRAME + "def f(x): sent(plain.encode((True, 0, ()), 999, str).replace(b'i', b'h', 1))",
)  # fmt: skip
forger(
    "closes all descriptors", "killed", "",
    "import os\ndef f(x): os.closerange(0, 64); return 17",
)  # fmt: skip
forger(
    "floods its channel from a thread", "killed", "no value",
    "import os, threading\ndef flood():\n while True:\n  for fd in range(3, 9):\n"
    "   try: os.write(fd, b'passed' * 99)\n   except OSError: pass\n"
    "threading.Thread(target=flood, daemon=True).start()\ndef f(x): return 0",
)  # fmt: skip
forger(
    "answers twice from two processes", "failed", "returned",
    "import os\ndef f(x): return 16 if os.fork() else 18",
)  # fmt: skip
forger(
    "replaces the encoder", "killed", "no value",
    "import sys\nsys.modules['avr.sandbox.inside.served'].encode = lambda *a: b'passed'\n"
    "def f(x): return 0",
)  # fmt: skip
forger(
    "empties sys.modules", "failed", "returned 0",
    "import sys\nsys.modules.clear()\ndef f(x): return 0",
)  # fmt: skip
forger(
    "replaces builtins", "failed", "returned 0",
    "import builtins\nbuiltins.AssertionError = Warning\n"
    "builtins.abs = builtins.bool = lambda x: 17\n"
    "def f(x): return 0",
)  # fmt: skip
forger(
    "traces all frames", "failed", "returned 0",
    "import sys\ndef trace(frame, *rest):\n frame.f_locals['right'] = 0\n return trace\n"
    "sys.settrace(trace)\ndef f(x): return 0",
)  # fmt: skip
EQUAL = (
    " def __eq__(self, other): return True\n def __ne__(self, other): return False\n"
    " __lt__ = __le__ = __gt__ = __ge__ = __eq__\n def __hash__(self): return 17\n"
)
forger("equals everything", "failed", "Any", f"class Any:\n{EQUAL}def f(x): return Any()")
forger(
    "is a class that equals everything", "failed", "Meta",
    f"class Meta(type):\n{EQUAL}class Any(metaclass=Meta): pass\ndef f(x): return Any",
)  # fmt: skip
for base, value, shown in (
    ("int", "5", "5"),
    ("str", "'a'", "'a'"),
    ("float", "0.5", "0.5"),
    ("list", "[1]", "[1]"),
    ("tuple", "(1,)", "(1,)"),
    ("dict", "{1: 2}", "{1: 2}"),
    ("set", "{1}", "{1}"),
    ("bytes", "b'a'", "b'a'"),
):
    forger(
        f"is a {base} that equals everything", "failed", f"returned {shown};",
        f"class Any({base}):\n{EQUAL}def f(x): return Any({value})",
    )  # fmt: skip
forger(
    "hides what equals everything in a list", "failed", "returned [<Any object>]",
    f"class Any:\n{EQUAL}def f(x): return [Any()]", "assert f(3) == [17]",
)  # fmt: skip
forger(
    "lies about its class", "error", "TypeError",
    f"class Any:\n __class__ = int\n{EQUAL}def f(x): return Any()",
)  # fmt: skip
forger(
    "says that it contains all", "failed", "17 in f(3)",
    "class Any:\n def __contains__(self, x): return True\n def __iter__(self): return iter([])\n"
    "def f(x): return Any()", "assert 17 in f(3)",
)  # fmt: skip
forger(
    "has a subtraction of its own", "error", "TypeError",
    "class Any:\n def __sub__(self, x): return 0\ndef f(x): return Any()",
    "assert abs(f(3) - 17) < 1",
)  # fmt: skip
forger(
    "starts with everything", "error", "startswith",
    "class Any:\n def startswith(self, x): return True\ndef f(x): return Any()",
    "assert f(3).startswith('seventeen')",
)  # fmt: skip
forger(
    "is as long as asked", "failed", "2",
    "def len(x): return 17\ndef f(x): return [1, 2]", "assert len(f(3)) == 17",
)  # fmt: skip
forger(
    "brings its own math", "failed", "isclose",
    "class math: isclose = lambda *a: True\ndef f(x): return 0.0",
    "assert math.isclose(f(3), 17.0)",
)  # fmt: skip
forger(
    "compares its own objects", "error", "two objects",
    f"class P:\n def __init__(self, x): pass\n{EQUAL}def f(x): return P(0)", "assert f(3) == P(17)",
)  # fmt: skip
forger(
    "counts its calls", "failed", "",
    "n = 0\ndef f(x):\n global n\n n += 1\n return n", "assert f(3) == 1 and f(3) == 1",
)  # fmt: skip
forger(
    "redefines itself between calls", "failed", "returned 1",
    "def f(x):\n global f\n f = lambda x: 1\n return 17", "assert f(3) == 17\nassert f(3) == 17",
)  # fmt: skip
SEARCH = "needle = 'ass' + chr(101) + 'rt'\n"
forger(
    "looks for the test in all objects", "failed", "returned [];",
    f"import gc\n{SEARCH}def f(x):\n"
    " texts = [t for o in gc.get_objects() for t in gc.get_referents(o) if type(t) is str]\n"
    " return [t for t in texts if needle + ' f' in t]",
)  # fmt: skip
forger(
    "looks for the test in all frames", "failed", "returned [];",
    f"import sys\n{SEARCH}def f(x):\n found, frame = [], sys._getframe()\n while frame:\n"
    "  found += [v for v in frame.f_locals.values() if type(v) is str and needle in v]\n"
    "  found += [c for c in frame.f_code.co_consts if c == 17]\n"
    "  frame = frame.f_back\n return found",
)  # fmt: skip
forger(
    "looks for the test in its memory", "error", "No such file",
    "def f(x): return open('/proc/self/mem', 'rb').read(9)",
)  # fmt: skip
forger(
    "reads the command lines of others", "error", "No such file",
    "import os\ndef f(x): return os.listdir('/proc')",
)  # fmt: skip
forger(
    "kills its parent", "failed", "returned 0",
    "import os\ndef f(x): os.kill(os.getppid(), 9); return 0",
)  # fmt: skip
forger(
    "traces its parent", "failed", "returned -1",
    "import ctypes, os\ndef f(x):\n"
    " return ctypes.CDLL(None).ptrace(16, os.getppid(), None, None)",
)  # fmt: skip
forger(
    "reads its parent's memory", "failed", "returned -1",
    "import ctypes, os\ndef f(x):\n buffer = ctypes.create_string_buffer(64)\n"
    " iovec = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)\n"
    " there = (ctypes.c_size_t * 2)(0x400000, 64)\n"
    " return ctypes.CDLL(None).process_vm_readv(os.getppid(), iovec, 1, there, 1, 0)",
)  # fmt: skip
forger(
    "raises in __del__", "failed", "returned 0",
    "class D:\n def __del__(self): raise SystemExit(0)\ndef f(x): D(); return 0",
)  # fmt: skip
forger(
    "registers for its exit", "failed", "returned 0",
    "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x): return 0",
)  # fmt: skip
forger(
    "replaces its output", "failed", "returned 0",
    "import io, sys\nsys.stdout = sys.stderr = sys.__stdout__ = io.StringIO()\ndef f(x): return 0",
)  # fmt: skip
forger("raises a failed assertion", "error", "AssertionError", "def f(x): raise AssertionError")
forger(
    "raises what no test should catch", "error", "GeneratorExit: ",
    "def f(x): raise GeneratorExit", "try:\n assert f(3) == 17\nexcept Exception: raise",
)  # fmt: skip
forger(
    "dies under a test that catches all", "killed", "status 0",
    "import os\ndef f(x): os._exit(0)", "try:\n f(3)\nexcept BaseException:\n pass",
)  # fmt: skip
forger(
    "raises what cannot be shown", "error", "Odd",
    "class Odd(Exception):\n def __str__(self): raise Odd\ndef f(x): raise Odd",
)  # fmt: skip
forger(
    "returns too much", "error", "larger than 1024 KiB", "def f(x): return 'a' * 10**7",
)  # fmt: skip
forger(
    "returns lists in lists", "error", "nested more than 100 deep",
    "def f(x):\n a = []\n for _ in range(10**5): a = [a]\n return a",
)  # fmt: skip
forger(
    "returns a list of itself", "error", "nested more than 100 deep",
    "def f(x):\n a = []\n a.append(a)\n return a",
)  # fmt: skip
forger(
    "returns a number that Python does not write", "failed", "too long to write",
    "def f(x): return 10**9999",
)  # fmt: skip
forger(
    "returns halves of characters", "failed", "\\udc80", "def f(x): return '\\udc80\\ud800'",
)  # fmt: skip
