"""Thousands of programs: the references of MBPP pass, forgers never do, and nothing is left."""

import asyncio
import json
import os
import sys
from itertools import cycle, islice
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from avr.config.sandbox import SandboxConfig
from avr.sandbox.isolation import resolve
from avr.sandbox.job import SandboxError
from avr.sandbox.prepare import prepare
from avr.sandbox.run import run_tests

sys.path.insert(0, str(Path(__file__).parents[2] / "unit/sandbox"))
from leftovers import left

MBPP = Path(__file__).parents[4] / "shared/data/code_and_maths/mbpp.jsonl"
pytestmark = [pytest.mark.integration, pytest.mark.long]
needs_mbpp = pytest.mark.skipif(
    not MBPP.exists(), reason="needs MBPP's rows in ../shared/data/code_and_maths"
)
ANY = """
class Any:
    def __eq__(self, other): return True
    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__
    def __hash__(self): return 0
    def __call__(self, *args, **named): return self
    def __getattr__(self, name): return self
    def __getitem__(self, key): return self
    def __iter__(self): return iter([])
    __sub__ = __add__ = __mul__ = __abs__ = __getitem__
"""
MARK = Path("/tmp") / f"left-by-a-program-{uuid4().hex}"
LEAVING = [
    "def f(x): return x + 1",
    "def f(x): return x",
    "import os, time\nif os.fork() == 0:\n os.setsid()\n time.sleep(1e6)\ndef f(x): return x + 1",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,)).start()\n"
    f"open({str(MARK)!r}, 'w').write('a')\ndef f(x): return x + 1",
    "import os\ndef f(x): os.kill(os.getpid(), 9)",
    "def f(x): return 'a' * 10**7",
    "def f(x) return",
]


@pytest.fixture(scope="module")
def config():
    try:
        return resolve(SandboxConfig(wall_s=60, cpu_s=20))
    except SandboxError as error:
        pytest.skip(str(error))


def verdicts(programs, config):
    """Run (program, tests, set-up) of all, as many at a time as there are cores."""

    async def all_of_them():
        places = asyncio.Semaphore(os.cpu_count() or 1)

        async def one(program, tests, setup):
            async with places:
                return await run_tests(program, tests, setup, config)

        return await asyncio.gather(*(one(*each) for each in programs))

    return asyncio.run(all_of_them())


def rows():
    return [json.loads(line) for line in MBPP.read_text().splitlines()]


def in_row(row):
    return row["test_list"] + row["challenge_test_list"]


@needs_mbpp
def test_every_reference_of_mbpp_passes_its_own_tests(config):
    programs = [(row["code"], in_row(row), row["test_setup_code"]) for row in rows()]
    found = zip(rows(), verdicts(programs, config), strict=True)
    failed = {
        row["task_id"]: [each.told for each in verdict.outcomes]
        for row, verdict in found
        if verdict.num_passed < len(verdict.outcomes)
    }
    assert failed == {}


@needs_mbpp
def test_an_object_that_equals_everything_passes_no_test_of_mbpp(config):
    def forged(row):
        _, prepared = prepare(in_row(row), row["test_setup_code"])
        names = {name for test in prepared for name in test.names}
        return ANY + "".join(f"\n{name} = Any()" for name in sorted(names))

    programs = [(forged(row), in_row(row), row["test_setup_code"]) for row in rows()]
    assert sum(verdict.num_passed for verdict in verdicts(programs, config)) == 0


def test_two_thousand_programs_leave_nothing_behind(config):
    def some(number):
        return [(program, ["assert f(1) == 2"], "") for program in islice(cycle(LEAVING), number)]

    warm = verdicts(some(140), config)
    before, memory = left(), psutil.Process().memory_info().rss
    found = verdicts(some(2000), config)
    passed = [each.num_passed for each in found]
    assert passed[:7] == [each.num_passed for each in warm[:7]] == [1, 0, 1, 1, 0, 0, 0]
    assert passed == list(islice(cycle(passed[:7]), 2000))
    assert left() == before
    assert not MARK.exists()
    assert psutil.Process().memory_info().rss - memory < 16 * 2**20
