"""Explain failed ranks to people: the cause, not the errors that follow from it, in few lines."""

from collections.abc import Mapping

from avr.storage import Location

TRACEBACK_LINES = 12
HEADLINE_CHARACTERS = 200
# Errors of a rank after another rank has died. They say nothing about the cause.
COLLATERAL = ("Connection closed by peer", "connection reset", "Connection refused", "NCCL error")


def first_cause(failures: Mapping[int, Exception]) -> tuple[int, str]:
    """Find the rank and error text that explain a failure; if possible no collateral error."""
    texts = {rank: str(error) or repr(error) for rank, error in sorted(failures.items())}
    for rank, text in texts.items():
        if not any(sign.lower() in text.lower() for sign in COLLATERAL):
            return rank, text
    return next(iter(texts.items()))


def explain(name: str, logs: Location, error: Exception) -> str:
    """Write the message of a failed run: cause, end of the traceback, place of the logs."""
    failures = getattr(error, "worker_failures", None)
    if not failures:
        return f"{name}: {error}\n  logs: {logs}"
    rank, text = first_cause(failures)
    lines = text.strip().splitlines()
    tail = "\n".join(f"  {line}" for line in lines[-TRACEBACK_LINES:])
    return f"{name}: rank {rank} failed: {headline(text)}\n{tail}\n  logs: {logs}/rank-{rank}.log"


def headline(text: str) -> str:
    """Return the last line of an error, cut where Ray begins to list possible causes."""
    last = text.strip().splitlines()[-1]
    last = last.partition(" Worker exit type:")[0]
    return last if len(last) <= HEADLINE_CHARACTERS else last[:HEADLINE_CHARACTERS] + " ..."
