"""Write an engine's output to its log, and find there the cause of its end."""

import os
import re
import sys
from pathlib import Path


def redirect_output(log: Path) -> None:
    """Send the output of this process and its children to a file: engines print a lot."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


_ERROR_LINE = re.compile(r"(?:^|\s)((?:[A-Za-z_][\w.]*)?(?:Error|Exception|Killed)\b: .+)")


# vLLM's own notices: each says that there was some other error.
_WRAPPERS = ("Engine core initialization failed", "EngineCore encountered an issue")


def root_cause(log: Path) -> str:
    """Find the first error in a log that is not vLLM's notice of some other error."""
    if not log.exists():
        return "there is no log"
    # The first error is taken for the cause of those after it.
    errors = _ERROR_LINE.findall(log.read_text(errors="replace")[-200_000:])
    real = [e for e in errors if not any(w in e for w in _WRAPPERS)]
    return real[0] if real else "no error was logged (killed from outside?)"
