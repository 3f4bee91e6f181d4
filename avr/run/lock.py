"""Lock a run directory, so that one job at a time works in it."""

import fcntl
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from upath import UPath

from avr.run.ledger import LedgerError
from avr.storage import Location, is_remote, read_bytes

_BEAT_S = 10.0
_SILENT_FOR_S = 35.0
_LOOK_EVERY_S = 2.0


@contextmanager
def lock_folder(folder: Location, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a run directory for this process. Raises LedgerError while another job holds it.

    On a file system the lock goes with the process, however it ends. An object store has no locks:
    there the holder writes an object again every 10 seconds, and one that has been silent for 35 is
    taken over.
    """
    if is_remote(folder):
        with _Beating(folder / ".lock", say):
            yield
        return
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LedgerError(_taken(folder)) from None
        yield


def _taken(folder: Location) -> str:
    return f"another job is running in {folder}; wait for it, or choose another run_dir"


class _Beating:
    """Hold a lock on an object store: writing its object again shows that the holder lives."""

    def __init__(self, file: UPath, say: Callable[[str], None]):
        self._file = file
        self._say = say
        self._me = uuid.uuid4().hex
        self._beats = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        if not self._create():
            self._wait_until_silent()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(_BEAT_S)
        # An object that stays behind is taken over by the next job, after its silence.
        with suppress(Exception):
            if self._holder() == self._me:
                self._file.unlink()

    def _create(self) -> bool:
        """Create the lock and return True, or False where it is there already.

        The store refuses the second of two who create it.
        """
        try:
            self._file.fs.pipe_file(self._file.path, self._words(), mode="create")
        except FileExistsError:
            return False
        return True

    def _wait_until_silent(self) -> None:
        folder = self._file.parent
        self._say(
            f"{folder} is locked; waiting {_SILENT_FOR_S:.0f} s to see whether its job is alive"
        )
        first, until = self._read(), time.monotonic() + _SILENT_FOR_S
        while time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)
            now = self._read()
            if now is None and self._create():
                return
            if now != first:
                raise LedgerError(_taken(folder))
        # Several jobs may have waited. The one that writes last has the lock, so look once more.
        self._file.write_bytes(self._words())
        time.sleep(_LOOK_EVERY_S)
        if self._holder() != self._me:
            raise LedgerError(_taken(folder))

    def _beat(self) -> None:
        while not self._stopped.wait(_BEAT_S):
            # A store may be out of reach for a moment.
            with suppress(Exception):
                # An object that is gone is written again; one of another job ends this one.
                if self._holder() not in (self._me, None):
                    self._say(
                        f"another job took over {self._file.parent} (no sign of life from this one "
                        f"for {_SILENT_FOR_S:.0f} s); stopping"
                    )
                    # Not SIGINT: jobs in the background ignore it.
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                self._file.write_bytes(self._words())

    def _words(self) -> bytes:
        # The count makes every text another one, so that whoever waits sees that somebody writes.
        self._beats += 1
        return f"{self._me} {self._beats} {os.uname().nodename}".encode()

    def _read(self) -> str | None:
        try:
            return read_bytes(self._file).decode()
        except FileNotFoundError:
            return None

    def _holder(self) -> str | None:
        words = self._read()
        return words.split()[0] if words else None
