"""Write a job for the sandbox's harness, and read what comes back."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from avr.config.sandbox import Isolation, SandboxConfig
from avr.sandbox.inside.launch import PYTHON_OPTIONS
from avr.sandbox.inside.limits import Limits
from avr.sandbox.inside.plain import MalformedError, decode, encode
from avr.sandbox.prepare import prepare
from avr.sandbox.verdict import Result, TestOutcome, Verdict

# Sets of texts have one order in every run: a program does not pass today and fail tomorrow.
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from avr.sandbox.inside.harness import main; main(sys.argv[2:])"
)
_ROOT = Path(__file__).parents[2]
_MOST_JOB = 2**29
_LENGTH = 4  # bytes before each frame


class SandboxError(RuntimeError):
    """Signal that the sandbox itself does not work; says nothing about a program."""


class Job:
    """Hold one program with its tests as the harness takes them.

    Raises ValueError for tests that are no Python.
    """

    def __init__(self, program: str, tests: Sequence[str], setup: str, config: SandboxConfig):
        prelude, prepared = prepare(tests, setup)
        body = (prelude, program, [(each.source, each.names, each.modules) for each in prepared])
        encoded = encode(body, _MOST_JOB, str)
        self.text = len(encoded).to_bytes(_LENGTH, "little") + encoded
        self.num_tests = len(tests)
        bubblewrap = shutil.which("bwrap") or "" if config.isolation is Isolation.bubblewrap else ""
        limits = Limits(
            config.wall_s,
            config.cpu_s,
            config.memory_mib,
            config.max_processes,
            config.output_kib,
            config.file_mib,
        )
        start = [sys.executable, *PYTHON_OPTIONS, "-c", _START, str(_ROOT)]
        self.command = [*start, config.isolation.value, bubblewrap, *limits.as_arguments()]

    def verdict(self, output: bytes, errors: bytes, status: int, late: str = "") -> Verdict:
        """Read the harness's output; tests without an outcome are timeouts if it came too `late`.

        Raises SandboxError where the harness failed.
        """
        outcomes = [TestOutcome(Result(kind), *rest) for kind, *rest in _frames(output)]
        lost = TestOutcome(Result.timeout, message=late) if late else None
        if lost is None and (status or len(outcomes) != self.num_tests):
            said = errors.decode(errors="replace").strip() or f"ended with status {status}"
            raise SandboxError(f"the sandbox does not work ({said})")
        missing = self.num_tests - len(outcomes)
        return Verdict((*outcomes, *([lost] * missing if lost else ())))


def _frames(output: bytes) -> list[tuple[str, ...]]:
    """Read whole frames; the last may have been cut off when time was up."""
    frames, at = [], 0
    while at + _LENGTH <= len(output):
        end = at + _LENGTH + int.from_bytes(output[at : at + _LENGTH], "little")
        if end > len(output):
            break
        try:
            frames.append(decode(output[at + _LENGTH : end], lambda *_: None))
        except MalformedError as error:
            raise SandboxError(f"the sandbox's harness wrote {error}") from None
        at = end
    return frames
