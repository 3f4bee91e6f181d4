"""Read and write files in a folder or an object store (`s3://`, `gs://`, ... any that fsspec has).

A `Location` is a `pathlib.Path`, or a `UPath` for a path with a protocol: the same methods over
fsspec. Object stores differ in three ways, and this module handles them. An object appears whole
when it is written (there is no rename, and none is needed). Nothing can be appended to an object.
Programs that want a folder (vLLM, DeepSpeed, TRL) get a copy of it on their own node. Credentials
come from the environment, never from the configuration.
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
# Stores in which an object appears only when its last byte has arrived.
_WHOLE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")


def location(path: str | Location) -> Location:
    """Return the location of a path or URL. Raises ConfigError for one that cannot be used.

    It may name nothing, hold a password, or have an unknown protocol.
    """
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
        raise ConfigError(
            f"a {protocol}:// path holds a password: pass it by environment variables"
        )
    try:
        # Listings are not cached: files that other processes have written must be seen at once.
        there = UPath(path.rstrip("/"), use_listings_cache=False)
        _ = there.fs  # imports what the protocol needs
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return there


def is_remote(place: Location) -> TypeIs[UPath]:
    """Tell whether a place is in an object store rather than in a folder."""
    return not isinstance(place, Path)


def for_arrow(place: Location) -> dict[str, Any]:
    """Return the argument `filesystem` for pyarrow and Ray Data; paths then come from `path_of`."""
    return {"filesystem": place.fs} if is_remote(place) else {}


def arrow_filesystem(place: Location) -> dict[str, Any]:
    """Return the argument `filesystem` for Ray Train, which takes pyarrow's own kind only."""
    if not is_remote(place):
        return {}
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return {"filesystem": PyFileSystem(FSSpecHandler(place.fs))}


def path_of(place: Location) -> str:
    """Return the path without its protocol."""
    return place.path if is_remote(place) else str(place)


def files_at(path: str) -> list[Location]:
    """List the file, all files of the folder, or all that fit a pattern (`data/*.jsonl`), in order.

    In a folder, names that begin with a dot or an underscore (`.DS_Store`, `_SUCCESS`) are left
    out, and so are all files in such a folder. Where there is no file the list is empty.
    """
    there = location(path)
    if there.is_file():
        return [there]
    if there.is_dir():
        depth = len(there.parts)
        found = (f for f in there.rglob("*") if f.is_file())
        return sorted(f for f in found if not any(p[0] in "._" for p in f.parts[depth:]))
    fixed, pattern = there, ""
    # The part of the path that exists is taken literally: a folder's own name is no pattern.
    while not fixed.exists() and fixed != fixed.parent:
        fixed, pattern = fixed.parent, f"{fixed.name}/{pattern}" if pattern else fixed.name
    return sorted(f for f in fixed.glob(pattern) if f.is_file()) if pattern else []


# The name that `written` gives to a file that is not whole yet.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp", re.DOTALL)


@contextmanager
def written(file: Location) -> Iterator[Path]:
    """Give a local path to write to; when the block ends well it becomes `file`, all at once."""
    if is_remote(file):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / file.name
            yield temporary
            if file.protocol in _WHOLE:
                file.fs.put_file(str(temporary), file.path)
            else:  # fsspec's other file systems write into the file, so a half of it could be seen
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
    """Read all of a small file in one request.

    If it is replaced meanwhile, the result is the old file or the new one, never a mixture.
    """
    return bytes(file.fs.cat_file(file.path)) if is_remote(file) else file.read_bytes()


def append(file: Location, text: str) -> None:
    """Append a text to a file. In an object store all of the file is written again."""
    if is_remote(file):
        before = read_bytes(file) if file.exists() else b""
        file.write_bytes(before + text.encode())
        return
    with file.open("a") as stream:  # a single write, so a kill leaves whole lines
        stream.write(text)


def remove(folder: Location) -> None:
    """Remove a folder and all in it, if it exists."""
    if is_remote(folder):
        with suppress(FileNotFoundError):
            folder.fs.rm(folder.path, recursive=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path, own: Iterable[str]) -> None:
    """Remove the temporary files of `written` that killed writers have left in a folder.

    The folders in it that `own` names are swept as well, at any depth. Other files there are not
    ours.
    """
    inside = (file for name in own for file in (folder / name).rglob(".*.tmp"))
    for file in (*folder.glob(".*.tmp"), *inside):
        if _TEMPORARY.fullmatch(file.name) and file.is_file() and not file.is_symlink():
            file.unlink(missing_ok=True)


def size_of(folder: Location) -> int:
    """Count the bytes of all files below a folder; 0 where there is none."""
    if is_remote(folder):
        return int(folder.fs.du(folder.path)) if folder.exists() else 0
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextmanager
def reached(name: str, place: Location) -> Iterator[None]:
    """Turn the errors of an object store, which have types of their own, into a ConfigError.

    Its message gives the setting `name`, its place, and why it cannot be reached.
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
    """Raise ConfigError, with the reason, if the folder of the setting `name` is not writable."""
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
    """Give the folder itself, or a local copy of a folder in a store for the time of the block."""
    if is_remote(folder):
        with tempfile.TemporaryDirectory() as copy:
            download(folder, Path(copy))
            yield Path(copy)
    else:
        yield folder


def copy(folder: Location, to: Location) -> None:
    """Copy the files of a folder to another one, which is not there yet.

    Both are on the same kind of place.
    """
    with local_copy(folder) as here:
        if is_remote(to):
            upload(here, to)
        else:
            shutil.copytree(here, to)


def fetched(folder: Location, name: str) -> Path:
    """Return the folder itself, or a lasting copy on this node; `name` identifies its content.

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
    """Return this node's folder for copies of files in a store, and files on the way to one.

    TMPDIR decides where it lies.
    """
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
