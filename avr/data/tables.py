"""Read and write the Parquet files between the steps: atomic writes, streaming reads."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avr.core.outputs import OutputSet, set_from_dict
from avr.core.tree import RefinementTree, tree_from_dict
from avr.data.ids import Ids, IdSum
from avr.data.ordered import batches, rows_by_id
from avr.data.schemas import OUTPUTS, TREES
from avr.storage import Location, for_arrow, local_copy, path_of, written

_ROW_GROUP_BYTES = 1 << 22


def write_part(folder: Location, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Write rows as the one Parquet file of that name, whole or not at all; no rows, no file.

    Writing the same part again replaces the file, so a retried task doubles nothing.
    """
    file = folder / f"{name}.parquet"
    if not rows:
        file.unlink(missing_ok=True)
        return
    with written(file) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema), temporary)


def write_rows(file: Location, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    """Stream rows into one Parquet file, whole or not at all; return how many there were.

    Each row group costs whoever opens the file 10 kB for good: so there are few, of 4 MiB or more.
    """
    stream, num_rows = iter(rows), 0
    with written(file) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        waiting: list[pa.RecordBatch] = []
        while batch := list(islice(stream, 1024)):
            waiting.append(pa.RecordBatch.from_pylist(batch, schema))
            num_rows += len(batch)
            if sum(one.nbytes for one in waiting) >= _ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    # malloc does not return memory below a place that is still used: 20 MiB for a million rows.
    pa.default_memory_pool().release_unused()
    return num_rows


def read_rows(path: Location, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Read the rows of a Parquet file or folder by batches; a folder without files has none."""
    files: list[Location] = [path] if path.is_file() else sorted(path.glob("*.parquet"), key=str)
    for batch in batches(files, columns):
        yield from batch.to_pylist()


def drop_doubles(folder: Location) -> int:
    """Remove rows whose id another file of the folder holds as well; return how many.

    The row in the first file, by name, stays. Each file is replaced whole.
    """
    # Nearly always there are none.
    if not ids_of(folder).doubles:
        return 0
    seen: set[str] = set()
    num_dropped = 0
    files: list[Location] = sorted(folder.glob("*.parquet"), key=str)
    for file in files:
        ids = pq.read_table(path_of(file), columns=["id"], **for_arrow(file))["id"].to_pylist()
        fresh = [each not in seen for each in ids]
        seen.update(ids)
        if not all(fresh):
            num_dropped += fresh.count(False)
            table = pq.read_table(path_of(file), **for_arrow(file))
            write_part(folder, file.stem, table.filter(pa.array(fresh)).to_pylist(), table.schema)
    return num_dropped


def ids_of(path: Location) -> Ids:
    """Read the `id` column of a Parquet file or folder, in little memory."""
    return Ids(row["id"] for row in read_rows(path, ["id"]))


def id_sum_of(path: Location) -> IdSum:
    """Sum up the ids of a file or folder, to compare it with another; no id is kept."""
    return IdSum.of(row["id"] for row in read_rows(path, ["id"]))


def read_ids(path: Location) -> set[str]:
    """Read the `id` column of a Parquet file or folder.

    Raises ValueError where an id is there twice.
    """
    ids: set[str] = set()
    for row in read_rows(path, ["id"]):
        if row["id"] in ids:
            raise ValueError(f"{path}: {row['id']} is there twice")
        ids.add(row["id"])
    return ids


def read_trees(folder: Location) -> Iterator[RefinementTree]:
    """Read trees in the order of their ids, each once.

    The order is the same however often growth was interrupted, and so are all rows that are
    selected. Raises ValueError where an id occurs twice: the folder then holds trees of two runs.
    """
    return map(tree_from_dict, _rows_by_id(folder, TREES))


def read_sets(folder: Location) -> Iterator[OutputSet]:
    """Read sets of whole outputs in the order of their ids, as `read_trees` reads trees."""
    return map(set_from_dict, _rows_by_id(folder, OUTPUTS))


def _rows_by_id(folder: Location, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    if not any(folder.glob("*.parquet")):
        return
    with local_copy(folder) as here:
        yield from rows_by_id(here, schema=schema)
