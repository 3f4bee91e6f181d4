"""Keep finished queries on disk: in journals while a step runs, in Parquet when all are there.

A journal is a file of one JSON object a line, written by one attempt of one task. Each line is
flushed to disk before the next query counts. No attempt continues a file that another one began, so
only a last line can be torn. An object store cannot append: there each line is an object.
"""

import json
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TextIO

import pyarrow as pa

from avr.core.messages import content_id
from avr.data.tables import read_ids, read_rows, write_part
from avr.storage import Location, is_remote, path_of, remove

Query = dict[str, Any]
_ROWS_PER_PART = 1024
_OBJECTS_AT_A_TIME = 256


class QueriesError(RuntimeError):
    """Signal that a step of queries failed; the message carries the worker's cause."""


@dataclass(frozen=True)
class Place:
    """Name the place of results: `folder/out` and `folder/quarantine`, with rows of `schema`."""

    folder: Location
    out: str
    schema: pa.Schema

    @property
    def journal(self) -> Location:
        """Return the folder of journals, which hold finished queries until all are finished."""
        return self.folder / "journal"

    def ended(self) -> set[str]:
        """Return the ids of all queries that are committed."""
        ids = {row["id"] for row in journalled(self.journal)}
        return ids | read_ids(self.folder / self.out) | read_ids(self.folder / "quarantine")

    @property
    def asked(self) -> Location:
        """Return the file of all queries, which is written before the first of them is done."""
        return self.folder / "queries.parquet"

    def finished(self) -> bool:
        """Say whether there were queries and all are in their place, no longer in journals."""
        if not self.asked.exists() or self.journal.exists():
            return False
        return read_ids(self.asked) <= self.ended()


class Writer:
    """Write a new journal for the shard `prefix`; use it as a context manager.

    Threads may commit side by side.
    """

    def __init__(self, journal: Location, prefix: str):
        self._journal = journal
        # Unique, so that no two attempts at a shard write into one file.
        self._name = f"{prefix}-{uuid.uuid4().hex}"
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        if not is_remote(journal):
            journal.mkdir(parents=True, exist_ok=True)
            self._file = (journal / f"{self._name}.jsonl").open("a")

    def commit(self, row: Query) -> None:
        """Write one finished query; when this returns, the query survives the machine."""
        line = json.dumps(row) + "\n"
        if self._file is None:
            # An object appears whole, so it needs neither the lock nor a flush.
            (self._journal / f"{self._name}-{row['id']}.jsonl").write_text(line)
            return
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> "Writer":
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def journalled(journal: Location, prefix: str = "") -> Iterator[Query]:
    """Read the rows of the journals, each id once.

    A torn last line was not committed and is left out.
    """
    seen: set[str] = set()
    for line in _lines(journal, prefix):
        if not line.endswith("\n"):
            continue
        row = json.loads(line)
        # Journals of several attempts may hold the same query: the first one counts.
        if row["id"] not in seen:
            seen.add(row["id"])
            yield row


def _lines(journal: Location, prefix: str) -> Iterator[str]:
    files: list[Location] = sorted(journal.glob(f"{prefix}*.jsonl"), key=str)
    if is_remote(journal):
        # Many small objects: they are asked for side by side.
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
    """Copy the journals' rows to Parquet, then remove the journals.

    Run again after a kill, it adds what is not there yet.
    """
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
    # Results must be on disk before the journals go.
    os.sync()
    # `remove` ignores errors: a task of a driver that was killed may still write there.
    remove(place.journal)


def check_complete(wanted: set[str], place: Place) -> tuple[int, int]:
    """Check that each query has come out once; count the done and the quarantined.

    Raises QueriesError where one is lost or there twice, and where all were quarantined.
    """
    done = read_ids(place.folder / place.out)
    quarantined = read_ids(place.folder / "quarantine")
    lost = wanted - done - quarantined
    strange = (done | quarantined) - wanted
    quarantine = place.folder / "quarantine"
    anew = f"remove {quarantine} and run the job again"
    for problem, ids, advice in (
        ("are lost", lost, "run the job again"),
        ("were not asked for", strange, "choose another run_dir"),
        (f"are in both {place.out}/ and quarantine/", done & quarantined, anew),
    ):
        if ids:
            raise QueriesError(f"{len(ids)} queries {problem} (first: {min(ids)}); {advice}")
    if wanted and not done:
        first = next(read_rows(quarantine, ["quarantined"]))["quarantined"]
        raise QueriesError(
            f"all {len(quarantined)} queries were quarantined (first: {first}); "
            f"remove {quarantine} to try them again"
        )
    return len(done), len(quarantined)
