"""Finished queries on disk: a journal while a step runs, Parquet when all of them are there.

A journal is a file of one JSON object a line, written by one attempt of one task: each line is
flushed to disk before the next query counts. Nobody continues a file that another attempt began, so
only a last line can be torn.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from avr.core.messages import content_id
from avr.pipeline.tables import read_ids, read_rows, write_part

Query = dict[str, Any]
_ROWS_PER_PART = 1024


class QueriesError(RuntimeError):
    """Working through queries failed; the message carries the worker's cause."""


@dataclass(frozen=True)
class Place:
    """Where results go: `folder/out` and `folder/quarantine`, with the rows of `schema`."""

    folder: Path
    out: str
    schema: pa.Schema

    @property
    def journal(self) -> Path:
        """Finished queries, until all are."""
        return self.folder / "journal"

    def ended(self) -> set[str]:
        """Ids of all queries that are committed."""
        ids = {row["id"] for row in journalled(self.journal)}
        return ids | read_ids(self.folder / self.out) | read_ids(self.folder / "quarantine")


class Writer:
    """A new journal file of the shard `prefix`; use it as a context."""

    def __init__(self, journal: Path, prefix: str):
        journal.mkdir(parents=True, exist_ok=True)
        self._file = (journal / f"{prefix}-{uuid.uuid4().hex}.jsonl").open("a")

    def commit(self, row: Query) -> None:
        """Write one finished query; when this returns it survives the machine."""
        self._file.write(json.dumps(row) + "\n")
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
        self._file.close()


def journalled(journal: Path, prefix: str = "") -> Iterator[Query]:
    """The rows of the journals, each id once; a torn last line was not committed."""
    seen: set[str] = set()
    for file in sorted(journal.glob(f"{prefix}*.jsonl")):
        with file.open() as lines:
            for line in lines:
                if not line.endswith("\n"):
                    continue
                row = json.loads(line)
                if row["id"] not in seen:
                    seen.add(row["id"])
                    yield row


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
    shutil.rmtree(place.journal, ignore_errors=True)  # a killed driver's task may still write


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
