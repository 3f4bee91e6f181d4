"""Rows of a Parquet folder in the order of their ids, in little memory and two passes."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.ipc as ipc

Texts = npt.NDArray[np.bytes_]
_FILES_AT_A_TIME = 256
_OPTIONS = ipc.IpcWriteOptions(compression="lz4")


def rows_by_id(folder: Path, at_a_time: int = 4096) -> Iterator[dict[str, Any]]:
    """Rows in the order of the column `id`, each once; about `at_a_time` of them are in memory.

    More than that are sorted into files for a stretch of ids each, in the system's temporary
    folder, which takes what the rows take uncompressed or less. Raises ValueError where an id is
    there twice.
    """
    files = sorted(folder.glob("*.parquet"))
    ids = np.sort(np.concatenate([_ids(b) for b in _batches(files, ["id"])] or [np.empty(0, "S1")]))
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise ValueError(f"{folder}: {twice[0].decode()} is there twice")
    if len(ids) <= at_a_time:
        yield from _in_order(list(_batches(files)))
        return
    with tempfile.TemporaryDirectory() as shelves:
        for shelf in _sorted_out(files, ids[::at_a_time], at_a_time, Path(shelves)):
            with ipc.open_file(shelf) as reader:
                yield from _in_order(reader.read_all().to_batches())
            shelf.unlink()


def _sorted_out(files: list[Path], starts: Texts, at_a_time: int, folder: Path) -> list[Path]:
    """A file for the rows from each of `starts` to the next."""
    shelves = [folder / f"{n}.arrow" for n in range(len(starts))]
    with ExitStack() as stack:
        writers: dict[int, ipc.RecordBatchFileWriter] = {}
        for table in _tables(files, at_a_time):
            places = np.searchsorted(starts, _ids(table), side="right") - 1
            for place in np.unique(places).tolist():
                if place not in writers:
                    writer = ipc.new_file(shelves[place], table.schema, options=_OPTIONS)
                    writers[place] = stack.enter_context(writer)
                writers[place].write_table(table.filter(pa.array(places == place)))
    return shelves


def _tables(files: list[Path], least: int) -> Iterator[pa.Table]:
    """All rows; files may be much smaller than the least number that is worth sorting out."""
    waiting: list[pa.RecordBatch] = []
    for batch in _batches(files):
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= least:
            yield pa.Table.from_batches(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks()


def _batches(files: list[Path], columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    for first in range(0, len(files), _FILES_AT_A_TIME):
        some = [str(file) for file in files[first : first + _FILES_AT_A_TIME]]
        dataset = pads.dataset(some, format="parquet")
        yield from dataset.to_batches(columns, batch_size=1024, cache_metadata=False)


def _in_order(batches: list[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    if not batches:
        return
    table = pa.Table.from_batches(batches).sort_by("id")
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _ids(rows: pa.RecordBatch | pa.Table) -> Texts:
    return np.array(rows["id"].to_pylist(), dtype=np.bytes_)
