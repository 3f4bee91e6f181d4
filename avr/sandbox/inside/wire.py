"""Carry frames, a length and so many bytes, over file descriptors."""

from __future__ import annotations

import os
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LENGTH = Struct("<I")


class ClosedError(Exception):
    """Signal that the other side has closed."""


class OversizedError(Exception):
    """Signal a frame that is longer than any should be."""


def _at_once(fd: int) -> None:
    """Let a blocking descriptor block."""


def send(fd: int, data: bytes, wait: Callable[[int], None] = _at_once) -> None:
    """Write one frame; `wait` is called before each write. Raises ClosedError."""
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        wait(fd)
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            continue
        except OSError as error:
            raise ClosedError(str(error)) from None


def receive(fd: int, most: int, wait: Callable[[int], None] = _at_once) -> bytes:
    """Read one frame; `wait` is called before each read.

    Raises ClosedError, or OversizedError for a frame of more than `most` bytes, of which none is
    read.
    """
    length = _LENGTH.unpack(_read(fd, _LENGTH.size, wait))[0]
    if length > most:
        raise OversizedError(f"a frame of {length} bytes")
    return _read(fd, length, wait)


def _read(fd: int, number: int, wait: Callable[[int], None]) -> bytes:
    parts = bytearray()
    while len(parts) < number:
        wait(fd)
        try:
            part = os.read(fd, min(number - len(parts), 2**16))
        except BlockingIOError:
            continue
        except OSError as error:
            raise ClosedError(str(error)) from None
        if not part:
            raise ClosedError("end of file")
        parts += part
    return bytes(parts)
