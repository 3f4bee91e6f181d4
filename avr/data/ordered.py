"""Read Parquet in little memory: batch by batch, and in the order of ids in two passes."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from avr.storage import Location, for_arrow, is_remote, path_of

Texts = npt.NDArray[np.bytes_]
_FILES_AT_A_TIME = 256
# Files that are open at a time; some systems allow 256.
_MOST_SHELVES = 128
_OPTIONS = ipc.IpcWriteOptions(compression="lz4")


def batches(
    files: Sequence[Location], columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read Parquet files of one place, at most 1,024 rows at a time."""
    if not files or not is_remote(files[0]):
        for file in files:
            yield from _local_batches(file, columns)
        return
    for first in range(0, len(files), _FILES_AT_A_TIME):
        some = files[first : first + _FILES_AT_A_TIME]
        table = pads.dataset(list(map(path_of, some)), format="parquet", **for_arrow(some[0]))
        # pyarrow would remember a hundred kilobytes of each file.
        yield from table.to_batches(columns, batch_size=1024, cache_metadata=False)


def _local_batches(file: Location, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    """Read one file in batches, without reading ahead.

    pyarrow's data sets read ahead, which takes 60 MiB and is no quicker.
    """
    try:
        with pq.ParquetFile(str(file), pre_buffer=False) as parquet:
            missing = set(columns or ()) - set(parquet.schema_arrow.names)
            if missing:
                raise ValueError(f"{file} has no column {min(missing)!r}")
            yield from parquet.iter_batches(1024, columns=columns, use_threads=False)
    # These name the file themselves.
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file}: {error}") from error


def rows_by_id(
    folder: Path, at_a_time: int = 4096, schema: pa.Schema | None = None
) -> Iterator[dict[str, Any]]:
    """Read rows in the order of the column `id`, each once; about `at_a_time` are in memory.

    With a `schema`, a field that a file does not have is null: the file may be older than the
    field, in a step that goes on after.

    Of more than 128 times `at_a_time` rows, one in 128 is in memory. More than `at_a_time` rows are
    sorted into files, each for a stretch of ids, in the system's temporary folder; they take what
    the rows take uncompressed, or less. Raises ValueError where an id is there twice.
    """
    files = sorted(folder.glob("*.parquet"))
    ids = np.sort(np.concatenate([_ids(b) for b in batches(files, ["id"])] or [np.empty(0, "S1")]))
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise ValueError(f"{folder}: {twice[0].decode()} is there twice")
    if len(ids) <= at_a_time:
        yield from _in_order(list(_as(schema, files)))
        return
    at_a_time = max(at_a_time, -(-len(ids) // _MOST_SHELVES))
    with tempfile.TemporaryDirectory() as shelves:
        for shelf in _sorted_out(files, ids[::at_a_time], at_a_time, Path(shelves), schema):
            with ipc.open_file(shelf) as reader:
                yield from _in_order(reader.read_all().to_batches())
            shelf.unlink()


def _as(schema: pa.Schema | None, files: list[Path]) -> Iterator[pa.RecordBatch]:
    for batch in batches(files):
        alike = schema is None or batch.schema.equals(schema)
        yield batch if alike else batch.cast(schema)


def _sorted_out(
    files: list[Path], starts: Texts, at_a_time: int, folder: Path, schema: pa.Schema | None
) -> list[Path]:
    """Sort rows into files, one for those from each of `starts` to the next; return the files."""
    shelves = [folder / f"{n}.arrow" for n in range(len(starts))]
    with ExitStack() as stack:
        writers: dict[int, ipc.RecordBatchFileWriter] = {}
        for table in _tables(files, at_a_time, schema):
            places = np.searchsorted(starts, _ids(table), side="right") - 1
            for place in np.unique(places).tolist():
                if place not in writers:
                    writer = ipc.new_file(shelves[place], table.schema, options=_OPTIONS)
                    writers[place] = stack.enter_context(writer)
                writers[place].write_table(table.filter(pa.array(places == place)))
    return shelves


def _tables(files: list[Path], least: int, schema: pa.Schema | None) -> Iterator[pa.Table]:
    """Read all rows in tables of at least `least` rows.

    Files may be much smaller than what is worth sorting out.
    """
    waiting: list[pa.RecordBatch] = []
    for batch in _as(schema, files):
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= least:
            yield pa.Table.from_batches(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks()


def _in_order(some: list[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    if not some:
        return
    table = pa.Table.from_batches(some).sort_by("id")
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _ids(rows: pa.RecordBatch | pa.Table) -> Texts:
    return np.array(rows["id"].to_pylist(), dtype=np.bytes_)
