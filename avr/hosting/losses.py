"""Tell what an error of Ray Data means: something went away, or the work itself is at fault."""

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    WorkerCrashedError,
)

from avr.hosting.witness import Report

_UNREADABLE = "Failed to deserialize exception"
_LOSSES = (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    WorkerCrashedError,
)


def is_loss(error: BaseException | None) -> bool:
    """Say whether an error means that a node or process went away.

    An actor that could not even start has a fault of its own, and is no loss.
    """
    while error is not None:
        if isinstance(error, _LOSSES) and not getattr(error, "actor_init_failed", False):
            return True
        # Ray notes the size of a worker's log around each task, and fails where the log is gone.
        if isinstance(error, FileNotFoundError) and "/logs/worker-" in str(error):
            return True
        # An error that did not survive the way to the driver has lost its type: only words are
        # left, and the name of the type among them.
        words = str(error)
        if _UNREADABLE in words and any(kind.__name__ in words for kind in _LOSSES):
            return True
        error = getattr(error, "cause", None) or error.__cause__
    return False


def cause_of(error: Exception, report: Report) -> str:
    """Return the words of the innermost error, and what the witness knows of dead engines."""
    inner: BaseException = error
    words = str(error).strip()
    while (deeper := getattr(inner, "cause", None) or inner.__cause__) is not None:
        inner = deeper
        if _UNREADABLE not in str(inner):
            words = str(inner).strip() or words
    # Such words are pages about serialisation, with the name of what happened somewhere in them.
    if _UNREADABLE in words:
        words = next((kind.__name__ for kind in _LOSSES if kind.__name__ in words), words)
    return "; ".join([words or repr(error), *report.causes[-3:]])
