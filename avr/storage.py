"""Where files lie: a folder, or an object store (`s3://`, `gs://`, ... whatever fsspec opens).

A `Location` is a `pathlib.Path` or, for what has a protocol, a `UPath`: the same methods over
fsspec. Object stores differ in three ways, and this module is where they do: an object appears
whole when it is written (there is no rename, and none is needed), nothing can be appended to, and
programs that want a folder (vLLM, DeepSpeed, TRL) get a copy of it on their own node. Credentials
are the environment's, never the configuration's.
"""

import fcntl
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from typing_extensions import TypeIs
from upath import UPath

from avr.config.errors import ConfigError

Location = Path | UPath
# Stores in which an object is there when the last byte of it has arrived, and not before.
_WHOLE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")


def location(path: str | Location) -> Location:
    """The location that a path or URL names. Raises ConfigError for a protocol nobody knows."""
    if not isinstance(path, str):
        return path
    protocol, separator, rest = path.partition("://")
    if not separator:
        return Path(path)
    if not rest:
        raise ConfigError(f"{path} names nothing")
    if protocol in ("file", "local"):
        return Path(rest)
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and ":" in user:
        raise ConfigError(f"a {protocol}:// path holds a password: it belongs into the environment")
    try:
        # Listings are not kept: what other processes have written must be seen at once.
        there = UPath(path.rstrip("/"), use_listings_cache=False)
        _ = there.fs  # imports what the protocol needs
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return there


def is_remote(place: Location) -> TypeIs[UPath]:
    """Whether this is an object store rather than a folder."""
    return not isinstance(place, Path)


def for_arrow(place: Location) -> dict[str, Any]:
    """`filesystem=` for pyarrow and Ray Data, whose paths are then those of `path_of`."""
    return {"filesystem": place.fs} if is_remote(place) else {}


def arrow_filesystem(place: Location) -> dict[str, Any]:
    """`filesystem=` for Ray Train, which takes pyarrow's own kind only."""
    if not is_remote(place):
        return {}
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return {"filesystem": PyFileSystem(FSSpecHandler(place.fs))}


def path_of(place: Location) -> str:
    """The path without its protocol."""
    return place.path if is_remote(place) else str(place)


def files_at(path: str) -> list[Location]:
    """The file, all files of the folder, or those a pattern fits (`data/*.jsonl`), in order.

    Of a folder, not what begins with a dot or an underscore (`.DS_Store`, `_SUCCESS`) nor what lies
    in such a folder. Where there is no such file, none.
    """
    there = location(path)
    if there.is_file():
        return [there]
    if there.is_dir():
        depth = len(there.parts)
        found = (f for f in there.rglob("*") if f.is_file())
        return sorted(f for f in found if not any(p[0] in "._" for p in f.parts[depth:]))
    fixed, pattern = there, ""
    while not fixed.exists() and fixed != fixed.parent:  # so that a folder's own name is no pattern
        fixed, pattern = fixed.parent, f"{fixed.name}/{pattern}" if pattern else fixed.name
    return sorted(f for f in fixed.glob(pattern) if f.is_file()) if pattern else []


# The name that `written` gives to what is not whole yet.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp", re.DOTALL)


@contextmanager
def written(file: Location) -> Iterator[Path]:
    """A local path to write to; when the block ends well it becomes `file`, whole and at once."""
    if is_remote(file):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / file.name
            yield temporary
            if file.protocol in _WHOLE:
                file.fs.put_file(str(temporary), file.path)
            else:  # fsspec's other file systems write into the file itself
                beside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.tmp")
                file.fs.put_file(str(temporary), beside.path)
                file.fs.mv(beside.path, file.path)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.rename(file)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(file: Location, text: str) -> None:
    """Write a text, whole or not at all."""
    with written(file) as temporary:
        temporary.write_text(text)


def read_bytes(file: Location) -> bytes:
    """All of a small file, in one request: one that is replaced meanwhile is the old or the new."""
    return bytes(file.fs.cat_file(file.path)) if is_remote(file) else file.read_bytes()


def append(file: Location, text: str) -> None:
    """Add to the end; on an object store, which cannot, by writing all of it again."""
    if is_remote(file):
        before = read_bytes(file) if file.exists() else b""
        file.write_bytes(before + text.encode())
        return
    with file.open("a") as stream:  # one write, so a kill leaves whole lines
        stream.write(text)


def remove(folder: Location) -> None:
    """Remove a folder and all in it, where it is there."""
    if is_remote(folder):
        with suppress(FileNotFoundError):
            folder.fs.rm(folder.path, recursive=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path, own: Iterable[str]) -> None:
    """Remove what writers that were killed have left of `written` in a folder and those below it
    that `own` names; what else lies there is not ours.
    """
    inside = (file for name in own for file in (folder / name).rglob(".*.tmp"))
    for file in (*folder.glob(".*.tmp"), *inside):
        if _TEMPORARY.fullmatch(file.name) and file.is_file() and not file.is_symlink():
            file.unlink(missing_ok=True)


def size_of(folder: Location) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    if is_remote(folder):
        return int(folder.fs.du(folder.path)) if folder.exists() else 0
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextmanager
def reached(name: str, place: Location) -> Iterator[None]:
    """Errors of an object store, which have types of their own, become a ConfigError that says what
    `name` sets and why it cannot be reached.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if not is_remote(place):
            raise
        raise ConfigError(f"{name}: {place} cannot be reached: {_words(error)}") from error


def check_writable(folder: Location, name: str) -> None:
    """Raise ConfigError, with the reason, where nothing can be written to what `name` sets."""
    probe = folder / f".writable-{uuid.uuid4().hex[:8]}"
    try:
        write_text(probe, "A full disk takes empty files.")
        probe.unlink()
    except Exception as error:  # every store has exceptions of its own
        raise ConfigError(f"{name}: {folder} cannot be written to: {_words(error)}") from error


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@contextmanager
def local_copy(folder: Location) -> Iterator[Path]:
    """The folder itself, or for the time of the block a copy of what the store holds."""
    if is_remote(folder):
        with tempfile.TemporaryDirectory() as copy:
            download(folder, Path(copy))
            yield Path(copy)
    else:
        yield folder


def copy(folder: Location, to: Location) -> None:
    """The files of a folder to another, which is not there yet and of the same kind of place."""
    with local_copy(folder) as here:
        if is_remote(to):
            upload(here, to)
        else:
            shutil.copytree(here, to)


def fetched(folder: Location, name: str) -> Path:
    """The folder itself, or a copy on this node that stays; `name` says which content it is.

    Processes of one node that want the same copy wait for the first to make it.
    """
    if not is_remote(folder):
        return folder
    copy = scratch() / "fetched" / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    with copy.with_name(f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            partial = copy.with_name(f"{name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            download(folder, partial)
            partial.rename(copy)
    return copy


def scratch() -> Path:
    """A folder of this node for what is only copied from or on its way to a store; see TMPDIR."""
    return Path(tempfile.gettempdir()) / f"avr-{os.getuid()}"


def download(folder: UPath, to: Path) -> None:
    """Copy all files below `folder` into the local folder `to`, many at a time."""
    start = PurePosixPath(folder.path)
    there = sorted(folder.fs.find(folder.path))
    if not there:
        raise FileNotFoundError(f"nothing at {folder}")
    here = [to / PurePosixPath(file).relative_to(start) for file in there]
    for parent in {file.parent for file in here}:
        parent.mkdir(parents=True, exist_ok=True)
    folder.fs.get(there, [str(file) for file in here])


def upload(folder: Path, to: UPath) -> None:
    """Copy all files below a local folder to a store, many at a time."""
    here = sorted(file for file in folder.rglob("*") if file.is_file())
    if here:
        there = [(to / file.relative_to(folder).as_posix()).path for file in here]
        to.fs.put([str(file) for file in here], there)
