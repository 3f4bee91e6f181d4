"""What a person is told when ranks fail: the cause of the rank that failed first, in few lines."""

from collections.abc import Mapping

from avr.storage import Location

TRACEBACK_LINES = 12
HEADLINE_CHARACTERS = 200
# Errors of ranks whose partner died. They say nothing about the cause.
COLLATERAL = ("Connection closed by peer", "connection reset", "Connection refused", "NCCL error")


def first_cause(failures: Mapping[int, Exception]) -> tuple[int, str]:
    """The rank and error text that explain a failure, collateral errors aside if possible."""
    texts = {rank: str(error) or repr(error) for rank, error in sorted(failures.items())}
    for rank, text in texts.items():
        if not any(sign.lower() in text.lower() for sign in COLLATERAL):
            return rank, text
    return next(iter(texts.items()))


def explain(name: str, logs: Location, error: Exception) -> str:
    """The message of a run that is over: cause, end of the traceback, where the logs are."""
    failures = getattr(error, "worker_failures", None)
    if not failures:
        return f"{name}: {error}\n  logs: {logs}"
    rank, text = first_cause(failures)
    lines = text.strip().splitlines()
    tail = "\n".join(f"  {line}" for line in lines[-TRACEBACK_LINES:])
    return f"{name}: rank {rank} failed: {headline(text)}\n{tail}\n  logs: {logs}/rank-{rank}.log"


def headline(text: str) -> str:
    """The last line of an error, cut where Ray begins to enumerate what may have happened."""
    last = text.strip().splitlines()[-1]
    last = last.partition(" Worker exit type:")[0]
    return last if len(last) <= HEADLINE_CHARACTERS else last[:HEADLINE_CHARACTERS] + " ..."
