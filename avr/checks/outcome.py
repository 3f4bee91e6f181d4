"""One check and its outcome: passed, failed with a cause in one line, or skipped with a reason."""

import re
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

_LONGEST = 400  # characters of a cause on a screen
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # which Ray gives its tracebacks


class Outcome(StrEnum):
    """How a check ended."""

    passed = "passed"
    failed = "failed"
    skipped = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check that passed has found: in words, and as figures for programs."""

    words: str
    figures: Mapping[str, Any] = field(default_factory=dict)


class CheckFailed(RuntimeError):
    """A check found something wrong; `figures` are those that it had by then."""

    def __init__(self, words: str, figures: Mapping[str, Any] | None = None):
        super().__init__(words)
        self.figures = dict(figures or {})


class Skipped(Exception):
    """A check cannot be made here; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Result:
    """A check that has ended. `words`: what was found, the cause of the failure, or the reason."""

    name: str
    outcome: Outcome
    seconds: float
    words: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    traceback: str | None = None


def carry_out(name: str, check: Callable[[], Finding], limit_s: float) -> Result:
    """Make one check and return its result, whatever it raises.

    It runs in a thread: after `limit_s` it has failed, and the next one begins. A collective that
    waits for a rank for ever would otherwise hide all that comes after it.
    """
    results: list[Result] = []
    began = time.monotonic()

    def make() -> None:
        results.append(_result(name, check, began))

    thread = threading.Thread(target=make, name=f"check {name}", daemon=True)
    thread.start()
    while thread.is_alive() and time.monotonic() - began < limit_s:
        thread.join(0.2)  # a moment at a time: signals are not seen inside
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
    """The innermost error in one line: of an error in a worker, the worker's own words."""
    chain = [error]  # Ray's errors carry the worker's, which may name Ray's as its cause again
    while (inner := getattr(error, "cause", None) or error.__cause__) is not None:
        if not isinstance(inner, BaseException) or any(inner is known for known in chain):
            break
        error = inner
        chain.append(error)
    error = next((e for e in reversed(chain) if not _is_traceback(_plain(e))), error)
    text = _plain(error) or repr(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # An error that did not survive the way to the driver is a traceback: its last line says it.
    line = lines[-1] if _is_traceback(text) else lines[0]
    named = type(error).__name__ not in ("RuntimeError", "CheckFailed") and not line.startswith(
        type(error).__name__
    )
    words = f"{type(error).__name__}: {line}" if named else line
    return words if len(words) <= _LONGEST else words[:_LONGEST] + " ..."


def _plain(error: BaseException) -> str:
    """What an error says, without colours."""
    return _COLOURS.sub("", str(error)).strip()


def _is_traceback(text: str) -> bool:
    return "Traceback" in text or text.startswith("ray::")
