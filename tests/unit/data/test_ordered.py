"""Rows in the order of their ids, however many there are and however they lie in files."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avr.core.messages import content_id
from avr.data.ordered import rows_by_id


def written(folder, rows, chance):
    """The rows in files of a few each."""
    rows = chance.sample(rows, len(rows))
    schema = pa.schema([("id", pa.string()), ("parts", pa.list_(pa.struct([("n", pa.int64())])))])
    number = 0
    while rows:
        some, rows = rows[: chance.randrange(1, 9)], rows[8:] if len(rows) > 8 else []
        pq.write_table(pa.Table.from_pylist(some, schema), folder / f"{number}.parquet")
        number += 1
        yield from some


@pytest.mark.parametrize("at_a_time", [1, 7, 64, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_all_rows_in_the_order_of_their_ids(tmp_path, at_a_time, seed):
    chance = random.Random(seed)
    rows = [
        {"id": content_id(n), "parts": [{"n": m} for m in range(chance.randrange(4))]}
        for n in range(200)
    ]
    there = list(written(tmp_path, rows, chance))
    assert len(there) > 64
    assert list(rows_by_id(tmp_path, at_a_time)) == sorted(there, key=lambda row: row["id"])


@pytest.mark.parametrize("at_a_time", [2, 1000])
def test_an_id_that_is_there_twice_is_an_error(tmp_path, at_a_time):
    for number, ids in enumerate((["a", "c"], ["b", "c"])):
        pq.write_table(pa.table({"id": ids}), tmp_path / f"{number}.parquet")
    with pytest.raises(ValueError, match="c is there twice"):
        list(rows_by_id(tmp_path, at_a_time))


def test_an_empty_folder_has_no_rows(tmp_path):
    assert list(rows_by_id(tmp_path)) == []


@pytest.mark.parametrize("at_a_time", [1, 1000])
def test_files_of_before_a_field_was_there_are_read_beside_those_of_after(tmp_path, at_a_time):
    before = [("id", pa.string()), ("parts", pa.list_(pa.struct([("n", pa.int64())])))]
    now = [before[0], ("parts", pa.list_(pa.struct([("n", pa.int64()), ("m", pa.string())])))]
    for number, fields in enumerate((before, now, before)):
        rows = [{"id": str(number), "parts": [{"n": number, "m": "new"}]}]
        table = pa.Table.from_pylist(rows, pa.schema(fields))
        pq.write_table(table, tmp_path / f"{number}.parquet")
    read = list(rows_by_id(tmp_path, at_a_time, pa.schema(now)))
    assert [row["parts"] for row in read] == [
        [{"n": n, "m": "new" if n == 1 else None}] for n in range(3)
    ]
