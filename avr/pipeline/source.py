"""Rows of a Parquet file as blocks of a dataset, read only so far ahead of what is done with them.

Ray Data reads as far ahead as the object store allows, while engines start as well. Blocks of a few
trees are small, so that would be all of them, and each that waits costs the driver some tens of
kilobytes: with a million prompts, gigabytes.
"""

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from avr.storage import Location, for_arrow, path_of

COMMITTED = "committed"
_ASK_EVERY_S = 0.5


def paced_rows(file: Location, ahead: int, witness: Any) -> ray.data.Dataset:
    """The row groups of `file`, each once less than `ahead` rows before it are not committed yet.

    `witness` is told of commits under the name `COMMITTED`. Where it is gone nothing waits. What
    waits holds no CPU: the last free one may be what those before it need to go on.
    """
    source = _RowGroups(file, ahead, witness)
    return ray.data.read_datasource(
        source, num_cpus=0, concurrency=1, override_num_blocks=source.num_blocks
    )


class _RowGroups(Datasource):
    def __init__(self, file: Location, ahead: int, witness: Any):
        self._file = file
        self._ahead = ahead
        self._witness = witness
        with _opened(file) as parquet:
            groups = range(parquet.metadata.num_row_groups)
            self._sizes = [parquet.metadata.row_group(group).num_rows for group in groups]

    @property
    def num_blocks(self) -> int:
        """How many row groups there are."""
        return len(self._sizes)

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown: it would only make Ray Data split the groups."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """A task for each row group."""
        tasks, before = [], 0
        for group, size in enumerate(self._sizes):
            read = partial(_read, self._file, group, before - self._ahead, self._witness)
            facts = BlockMetadata(num_rows=size, size_bytes=None, exec_stats=None, input_files=None)
            tasks.append(ReadTask(read, facts, per_task_row_limit=per_task_row_limit))
            before += size
        return tasks


def _read(file: Location, group: int, least: int, witness: Any) -> Iterable[pa.Table]:
    """The row group, when `least` rows are committed."""
    while least > 0 and not _committed(witness, least):
        time.sleep(_ASK_EVERY_S)
    with _opened(file) as parquet:
        return [parquet.read_row_group(group)]


def _committed(witness: Any, least: int) -> bool:
    try:
        report = ray.get(witness.report.remote(), timeout=30)
    except ray.exceptions.RayError:
        return True
    return bool(report.advanced[COMMITTED] >= least)


def _opened(file: Location) -> pq.ParquetFile:
    return pq.ParquetFile(path_of(file), **for_arrow(file))
