"""Ids in little memory, and whether a growth is complete."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avr.data.ids import Ids, IdSum
from avr.data.tables import drop_doubles, ids_of, read_rows, write_part, write_rows
from avr.dataflow import grown as grown_module
from avr.dataflow.grown import GrowthError, check_complete, ended

SCHEMA = pa.schema([("id", pa.string()), ("quarantined", pa.string())])


def rows(ids, reason=""):
    return [{"id": id_, "quarantined": reason} for id_ in ids]


@pytest.fixture
def grown(tmp_path):
    """Makes a folder with seedlings, trees and quarantine of the ids given."""

    def make(wanted, trees, quarantine=""):
        write_rows(tmp_path / "seedlings.parquet", rows(wanted), SCHEMA)
        for number, part in enumerate(trees.split()):
            write_part(tmp_path / "trees", f"part-{number}", rows(part), SCHEMA)
        write_part(tmp_path / "quarantine", "part", rows(quarantine, "too long"), SCHEMA)
        return tmp_path / "seedlings.parquet", tmp_path

    return make


def test_ids_are_a_set_as_python_s_is():
    first, second = ({f"{n:x}" for n in range(0, 60, step)} for step in (2, 3))
    some, others = Ids(first), Ids(second)
    for n in range(80):
        assert (f"{n:x}" in some) == (f"{n:x}" in first)
    assert len(some | others) == len(first | second)
    assert len(some & others) == len(first & second)
    assert all(id_ in some | others for id_ in first | second)
    assert len(Ids()) == 0 and "a" not in Ids()


def test_ids_know_of_doubles():
    ids = Ids("abacc")
    assert (ids.num_rows, len(ids), len(ids.doubles)) == (5, 3, 2)
    assert "a" in ids.doubles and "c" in ids.doubles and "b" not in ids.doubles
    assert not Ids("ab").doubles


IDS = st.lists(st.sampled_from("abcdefg"), max_size=8)


@given(IDS, IDS, IDS)
def test_sums_tell_collections_of_ids_apart_as_counting_does(some, more, others):
    same = Counter(some + more) == Counter(others)
    assert (IdSum.of(some) + IdSum.of(more) == IdSum.of(others)) == same


def test_every_tree_is_there_once(grown):
    source, folder = grown("abcd", "ab d", "c")
    assert check_complete(source, folder) == (3, 1)
    assert len(ended(folder)) == 4 and "c" in ended(folder)


@pytest.mark.parametrize(
    "wanted, trees, quarantine, words",
    [
        ("abcd", "ab", "c", r"1 trees are lost \(first: d\); run the job again"),
        ("ab", "ab xy", "", r"2 trees were not asked for \(first: x\); choose another"),
        ("abc", "ab", "bc", r"1 trees are in both trees/ and quarantine/ \(first: b\)"),
        ("ab", "", "ab", r"all 2 trees were quarantined \(first: too long\)"),
    ],
)
def test_what_is_amiss_is_named(grown, wanted, trees, quarantine, words):
    with pytest.raises(GrowthError, match=words):
        check_complete(*grown(wanted, trees, quarantine))


def test_a_tree_that_was_committed_twice_is_dropped_once(grown):
    source, folder = grown("abc", "ab bc")
    assert check_complete(source, folder) == (3, 0)
    assert len(list(read_rows(folder / "trees"))) == 3


def test_a_tree_that_is_twice_in_one_file_is_named(grown):
    source, folder = grown("abc", "abcb")
    with pytest.raises(ValueError, match="b is there twice"):
        check_complete(source, folder)


def test_doubles_are_dropped_and_the_first_stays(grown):
    _, folder = grown("abc", "ab bc")
    assert drop_doubles(folder / "trees") == 1
    assert sorted(row["id"] for row in read_rows(folder / "trees")) == ["a", "b", "c"]
    assert not ids_of(folder / "trees").doubles


def test_a_tree_that_comes_between_two_looks_does_not_pass_for_counted(grown, monkeypatch):
    source, folder = grown("abc", "ab")
    read = grown_module.read_ids

    def late(path):
        write_part(folder / "trees", "late", rows("c"), SCHEMA)
        return read(path)

    monkeypatch.setattr(grown_module, "read_ids", late)
    with pytest.raises(GrowthError, match="run the job again"):
        check_complete(source, folder)
