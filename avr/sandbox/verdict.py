"""Hold how a program did in its unit tests."""

from dataclasses import dataclass
from enum import Enum


class Result(Enum):
    """Name the ends of one test.

    `failed`: an assertion does not hold. `error`: the program, or the test itself, raised an
    exception. `timeout`: out of time, by the clock or of the processor. `killed`: the program's
    process ended before it gave a result, or did what no program may.
    """

    passed = "passed"
    failed = "failed"
    error = "error"
    timeout = "timeout"
    killed = "killed"


@dataclass(frozen=True)
class TestOutcome:
    """Hold how one test ended, in short texts.

    `call`, `got` and `expected` are of the assertion that failed. `message` is what the assertion
    said, or the exception with the program's last line, or why the process is gone.
    """

    __test__ = False  # no test of pytest

    result: Result
    call: str = ""
    got: str = ""
    expected: str = ""
    message: str = ""

    @property
    def told(self) -> str:
        """Return the outcome as one line for whoever has to correct the program."""
        if self.result is Result.passed:
            return "passed"
        if self.result is not Result.failed or not self.call:
            return self.message or "an assertion does not hold"
        told = f"{self.call} returned {self.got}; expected {self.expected}"
        return f"{told} ({self.message})" if self.message else told


@dataclass(frozen=True)
class Verdict:
    """Hold the outcomes of a program's tests, in the order of the tests."""

    outcomes: tuple[TestOutcome, ...]

    @property
    def num_passed(self) -> int:
        """Return the number of tests that passed."""
        return sum(each.result is Result.passed for each in self.outcomes)
