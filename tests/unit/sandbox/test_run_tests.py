"""What tests mean across the sandbox's wall is what they mean below a program."""

import asyncio
from dataclasses import replace

import pytest
from leftovers import left

from avr.config.sandbox import Isolation, SandboxConfig
from avr.sandbox.isolation import available
from avr.sandbox.job import SandboxError
from avr.sandbox.run import run_tests
from avr.sandbox.verdict import Result

CONFIG = SandboxConfig(Isolation.namespaces, wall_s=60)

pytestmark = pytest.mark.skipif(
    bool(available(Isolation.namespaces)), reason=available(Isolation.namespaces)
)


def told(program, *tests, setup="", config=CONFIG):
    verdict = asyncio.run(run_tests(program, tests, setup, config))
    assert verdict.num_passed == [each.told for each in verdict.outcomes].count("passed")
    return [each.told for each in verdict.outcomes]


def test_each_test_has_its_outcome_in_the_order_of_the_tests():
    program = "def f(x):\n  return x + 1\ndef g(x): return 1 // x"
    assert told(program, "assert f(1) == 2", "assert f(3) == 5", "assert g(0) == 1", "h()") == [
        "passed",
        "f(3) returned 4; expected 5",
        "ZeroDivisionError: integer division or modulo by zero (line 3: def g(x): return 1 // x)",
        "NameError: name 'h' is not defined",
    ]


def test_general_assertions_are_evaluated_outside_the_program():
    program = "def f(x): return x / 2\ndef s(x): return {x}"
    tests = [
        "assert abs(f(3) - 1.5) < 1e-9, 'far off'",
        "import math\nassert math.isclose(f(3), 1.5)",
        "assert not s(3) - {3, 4}",
        "assert all(f(x) == x / 2 for x in range(9))",
        "assert abs(f(3) - 1.6) < 1e-9, 'far off'",
    ]
    *passed, failed = told(program, *tests)
    assert passed == ["passed"] * 4
    assert failed == "abs(f(3) - 1.6) < 1e-09 returned False; expected a true value (far off)"


def test_types_are_kept():
    program = "def f(x): return x\ndef t(x): return type(x)"
    tests = ["assert f(True) is True", "assert type(f(1.0)) is float", "assert t(3) == int"]
    assert told(program, *tests, "assert f((1, [2])) == (1, (2,))") == [
        *["passed"] * 3,
        "f((1, [2])) returned (1, [2]); expected (1, (2,))",
    ]


def test_a_program_changes_its_arguments_in_place():
    program = "def f(x): x.sort(); x[0].append(9)\ndef g(x): x['a'] = 1"
    tests = [
        "x = [[3], [1]]\nf(x)\nassert x == [[1, 9], [3]]",
        "d = {}\ng(d)\nassert d == {'a': 1}",
    ]
    assert told(program, *tests) == ["passed"] * 2


def test_inner_lists_stay_the_ones_that_the_test_holds():
    program = "def f(x): x[1].append(9)"
    assert told(program, "a, b = [1], [2]\nf([a, b])\nassert b == [2, 9]") == ["passed"]


def test_objects_of_the_program_stay_there_and_serve_as_arguments():
    program = (
        "class Node:\n def __init__(self, value): self.value, self.left = value, None\n"
        "def depth(node): return 1 + depth(node.left) if node else 0\n"
        "def total(nodes): return sum(node.value for node in nodes)\n"
        "class Stack(list):\n def peek(self): return self[-1]\n"
        "class Queue:\n def __init__(self): self.items = []\n"
        " def append(self, x): self.items.append(x)\n def __len__(self): return len(self.items)"
    )
    setup = "root = Node(1)\nroot.left = Node(2)\nroot.left.left = Node(3)"
    tests = [
        "assert depth(root) == 3",
        "assert root.left.left.value == 3",
        "assert total([Node(1), Node(5)]) == 6",
        "q = Queue()\nq.append(7)\nassert len(q) == 1 and q.items == [7]",
    ]
    assert told(program, *tests, setup=setup) == ["passed"] * 4


def test_iterators_are_asked_item_by_item():
    program = (
        "from itertools import count\ndef f(x): yield from count(x)\ndef g(x): return map(abs, x)"
    )
    tests = [
        "it = f(3)\nassert (next(it), next(it)) == (3, 4)",
        "assert list(g([-1, 2])) == [1, 2]",
    ]
    assert told(program, *tests, "assert g([1]) == [1]") == [
        "passed",
        "passed",
        "g([1]) returned <map object>; expected [1]",
    ]


def test_exceptions_of_the_program_are_caught_by_tests():
    program = "class Odd(ValueError): pass\ndef f(x): raise Odd('odd')"
    test = "try: f(1)\nexcept ValueError as error: assert str(error) == 'odd'\nelse: assert False"
    assert told(program, test, "f(1)") == [
        "passed",
        "Odd: odd (line 2: def f(x): raise Odd('odd'))",
    ]


def test_each_test_sees_the_program_anew():
    program = "n = []\ndef f(x):\n  n.append(x)\n  open('/tmp/a', 'a').write('a')\n  return len(n)"
    test = "assert f(1) == 1 and f(1) == 2"
    assert told(program, test, test) == ["passed"] * 2


def test_a_set_has_the_same_order_in_every_run():
    program = "def f(x): return list({str(n) for n in range(99)})"
    first, second = (told(program, "assert f(1) == 0") for _ in range(2))
    assert first == second


def test_a_test_that_takes_the_program_s_word_is_not_supported():
    program = "class P: pass\ndef f(x): return x(1)\ndef g(): return P()"
    first, second = told(program, "assert f(lambda x: x) == 1", "assert g() == g()")
    assert "cannot be given to a program" in first
    assert "two objects of the program" in second


def test_a_program_that_does_not_load_fails_all_tests():
    assert told("def f(x)\n", "assert f(1)", "assert f(2)") == (
        ["SyntaxError: expected ':' (<program>, line 1) (line 1: def f(x))"] * 2
    )


def test_a_test_without_an_end_is_ended():
    config = replace(CONFIG, wall_s=0.5)
    tests = ["while True: pass", "assert f(1) == 1"]
    program = "def f(x): return 1"
    late, _ = told(program, *tests, config=config)
    assert late == "no result after 0.5 s"


def test_no_tests_give_an_empty_verdict():
    assert told("def f(x): return 1") == []


def test_a_cancelled_run_leaves_nothing():
    async def cancelled():
        with pytest.raises(asyncio.TimeoutError):
            run = run_tests("import time\ntime.sleep(1e6)", ["f(1)"], "", CONFIG)
            await asyncio.wait_for(run, 1)

    before = left()
    asyncio.run(cancelled())
    assert left() == before


def test_many_runs_at_a_time_share_a_loop_and_leave_nothing():
    program = (
        "import os, time\nif os.fork() == 0:\n os.setsid()\n time.sleep(1e6)\ndef f(x): return x"
    )

    async def many():
        places = asyncio.Semaphore(4)

        async def one(number):
            async with places:
                return await run_tests(program, [f"assert f({number}) == 7"], "", CONFIG)

        return await asyncio.gather(*(one(number) for number in range(50)))

    before = left()
    passed = [verdict.num_passed for verdict in asyncio.run(many())]
    assert passed == [int(number == 7) for number in range(50)]
    assert left() == before


def test_a_sandbox_that_fails_raises_and_blames_no_program(monkeypatch):
    monkeypatch.setattr("avr.sandbox.job._START", "import sys; sys.exit('no memory')")
    with pytest.raises(SandboxError, match=r"does not work \(no memory"):
        told("def f(x): return 1", "assert f(1) == 1")


def test_limits_alone_keep_processes_signals_and_sockets_away():
    program = (
        "import os, socket\n"
        "def f(what):\n"
        " try: what = {'fork': os.fork, 'kill': lambda: os.kill(os.getppid(), 0),\n"
        "  'all': lambda: os.kill(-1, 0), 'net': socket.socket}[what]()\n"
        " except PermissionError: return 'refused'"
    )
    tests = [f"assert f({what!r}) == 'refused'" for what in ("fork", "kill", "all", "net")]
    config = replace(CONFIG, isolation=Isolation.process)
    assert told(program, *tests, config=config) == ["passed"] * 4


@pytest.mark.skipif(bool(available(Isolation.bubblewrap)), reason="no bubblewrap here")
def test_bubblewrap_runs_programs_and_shows_no_files():
    program = "import os\ndef f(x): return [os.path.exists(p) for p in ('/etc', '/proc', '/home')]"
    config = replace(CONFIG, isolation=Isolation.bubblewrap)
    assert told(program, "assert f(1) == [False] * 3", config=config) == ["passed"]


def test_outcomes_say_what_kind_they_are():
    program = "import os\ndef f(x): return os._exit(3) if x else x"
    verdict = asyncio.run(run_tests(program, ["f(0)", "f(1)", "assert f(0)"], "", CONFIG))
    assert [each.result for each in verdict.outcomes] == [
        Result.passed,
        Result.killed,
        Result.failed,
    ]
