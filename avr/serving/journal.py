"""Finished queries on disk: a journal while a step runs, Parquet when all of them are there.

A journal is a file of one JSON object a line, written by one attempt of one task: each line is
flushed to disk before the next query counts. Nobody continues a file that another attempt began, so
only a last line can be torn. On an object store, which appends nothing, each line is an object.
"""

import json
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, TextIO

import pyarrow as pa

from avr.core.messages import content_id
from avr.data.tables import read_ids, read_rows, write_part
from avr.storage import Location, is_remote, path_of, remove

Query = dict[str, Any]
_ROWS_PER_PART = 1024
_OBJECTS_AT_A_TIME = 256


class QueriesError(RuntimeError):
    """Working through queries failed; the message carries the worker's cause."""


@dataclass(frozen=True)
class Place:
    """Where results go: `folder/out` and `folder/quarantine`, with the rows of `schema`."""

    folder: Location
    out: str
    schema: pa.Schema

    @property
    def journal(self) -> Location:
        """Finished queries, until all are."""
        return self.folder / "journal"

    def ended(self) -> set[str]:
        """Ids of all queries that are committed."""
        ids = {row["id"] for row in journalled(self.journal)}
        return ids | read_ids(self.folder / self.out) | read_ids(self.folder / "quarantine")


class Writer:
    """A new journal of the shard `prefix`; use it as a context. Threads may commit side by side."""

    def __init__(self, journal: Location, prefix: str):
        self._journal = journal
        self._name = f"{prefix}-{uuid.uuid4().hex}"
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        if not is_remote(journal):
            journal.mkdir(parents=True, exist_ok=True)
            self._file = (journal / f"{self._name}.jsonl").open("a")

    def commit(self, row: Query) -> None:
        """Write one finished query; when this returns it survives the machine."""
        line = json.dumps(row) + "\n"
        if self._file is None:
            (self._journal / f"{self._name}-{row['id']}.jsonl").write_text(line)
            return
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> "Writer":
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def journalled(journal: Location, prefix: str = "") -> Iterator[Query]:
    """The rows of the journals, each id once; a torn last line was not committed."""
    seen: set[str] = set()
    for line in _lines(journal, prefix):
        if not line.endswith("\n"):
            continue
        row = json.loads(line)
        if row["id"] not in seen:
            seen.add(row["id"])
            yield row


def _lines(journal: Location, prefix: str) -> Iterator[str]:
    files: list[Location] = sorted(journal.glob(f"{prefix}*.jsonl"), key=str)
    if is_remote(journal):  # many small objects: asked for side by side
        paths = iter([path_of(file) for file in files])
        while some := list(islice(paths, _OBJECTS_AT_A_TIME)):
            texts = journal.fs.cat(some)
            for path in some:
                yield texts[path].decode()
        return
    for file in files:
        with file.open() as lines:
            yield from lines


def compact(place: Place) -> None:
    """Journals to Parquet; done again after a kill it adds what is not there yet."""
    if not place.journal.exists():
        return
    there = read_ids(place.folder / place.out) | read_ids(place.folder / "quarantine")
    rows = (row for row in journalled(place.journal) if row["id"] not in there)
    while part := list(islice(rows, _ROWS_PER_PART)):
        name = content_id([row["id"] for row in part])
        for folder, chosen in (
            (place.out, [row for row in part if not row["quarantined"]]),
            ("quarantine", [row for row in part if row["quarantined"]]),
        ):
            write_part(place.folder / folder, name, chosen, place.schema)
    os.sync()  # results must be on disk before the journals go
    remove(place.journal)  # a killed driver's task may still write


def check_complete(wanted: set[str], place: Place) -> tuple[int, int]:
    """How many queries are done, and how many quarantined.

    Raises QueriesError where one is lost or there twice, and where all were quarantined.
    """
    done = read_ids(place.folder / place.out)
    quarantined = read_ids(place.folder / "quarantine")
    lost = wanted - done - quarantined
    strange = (done | quarantined) - wanted
    for problem, ids in (("lost", lost), ("not asked for", strange), ("twice", done & quarantined)):
        if ids:
            raise QueriesError(f"{len(ids)} queries {problem}, the first: {min(ids)}")
    if wanted and not done:
        quarantine = place.folder / "quarantine"
        first = next(read_rows(quarantine, ["quarantined"]))["quarantined"]
        raise QueriesError(
            f"all {len(quarantined)} queries were quarantined; the first: {first}. "
            f"Remove {quarantine} to try them again."
        )
    return len(done), len(quarantined)
