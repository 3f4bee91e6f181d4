"""Make one check and record its outcome: passed, failed with a cause, or skipped with a reason."""

import re
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

_LONGEST = 400  # characters of a cause on a screen
# Ray gives its tracebacks colours.
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Outcome(StrEnum):
    """Name the ways in which a check can end."""

    passed = "passed"
    failed = "failed"
    skipped = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold the finding of a check that passed: in words, and as figures for programs."""

    words: str
    figures: Mapping[str, Any] = field(default_factory=dict)


class CheckFailed(RuntimeError):
    """Signal that a check found something wrong; `figures` are those it had by then."""

    def __init__(self, words: str, figures: Mapping[str, Any] | None = None):
        super().__init__(words)
        self.figures = dict(figures or {})


class Skipped(Exception):
    """Signal that a check cannot be made here; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Result:
    """Hold the result of a check that has ended.

    `words` are its finding, the cause of its failure, or the reason why it was skipped.
    """

    name: str
    outcome: Outcome
    seconds: float
    words: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    traceback: str | None = None


def carry_out(name: str, check: Callable[[], Finding], limit_s: float) -> Result:
    """Make one check and return its result, whatever it raises.

    It runs in a thread: after `limit_s` it has failed, and the next one begins. Otherwise a
    collective that waits for a rank for ever would hide all that comes after it.
    """
    results: list[Result] = []
    began = time.monotonic()

    def make() -> None:
        results.append(_result(name, check, began))

    thread = threading.Thread(target=make, name=f"check {name}", daemon=True)
    thread.start()
    while thread.is_alive() and time.monotonic() - began < limit_s:
        # A moment at a time: signals are not seen inside.
        thread.join(0.2)
    if results:
        return results[0]
    words = f"no end after {limit_s:.0f} s (timeout_s); what it started may still hold devices"
    return Result(name, Outcome.failed, round(time.monotonic() - began, 1), words)


def _result(name: str, check: Callable[[], Finding], began: float) -> Result:
    figures: Mapping[str, Any] = {}
    trace = None
    try:
        found = check()
        outcome, words, figures = Outcome.passed, found.words, found.figures
    except Skipped as reason:
        outcome, words = Outcome.skipped, str(reason)
    except CheckFailed as error:
        outcome, figures = Outcome.failed, error.figures
        words = " ".join(str(error).split())  # in one line, whatever a worker has said
        trace = traceback.format_exc() if error.__cause__ is not None else None
    except Exception as error:  # whatever it is, the other checks go on
        outcome, words, trace = Outcome.failed, cause(error), traceback.format_exc()
    return Result(name, outcome, round(time.monotonic() - began, 1), words, figures, trace)


def cause(error: BaseException) -> str:
    """Return the innermost error in one line: for an error in a worker, the worker's own words."""
    # An error of Ray's carries the worker's error, which may again name Ray's as its cause.
    chain = [error]
    while (inner := getattr(error, "cause", None) or error.__cause__) is not None:
        if not isinstance(inner, BaseException) or any(inner is known for known in chain):
            break
        error = inner
        chain.append(error)
    error = next((e for e in reversed(chain) if not _is_traceback(_plain(e))), error)
    text = _plain(error) or repr(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # An error that did not survive the way to the driver is a traceback: its last line is the
    # error.
    line = lines[-1] if _is_traceback(text) else lines[0]
    named = type(error).__name__ not in ("RuntimeError", "CheckFailed") and not line.startswith(
        type(error).__name__
    )
    words = f"{type(error).__name__}: {line}" if named else line
    return words if len(words) <= _LONGEST else words[:_LONGEST] + " ..."


def _plain(error: BaseException) -> str:
    """Return the words of an error, without colours."""
    return _COLOURS.sub("", str(error)).strip()


def _is_traceback(text: str) -> bool:
    return "Traceback" in text or text.startswith("ray::")
