"""Finished queries: committed line by line, moved to Parquet, and none of them lost or doubled."""

import json
import shutil
from dataclasses import replace
from operator import itemgetter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avr.core.messages import user
from avr.core.outputs import open_set, set_to_dict
from avr.core.tree import Prompt, plant, tree_to_dict
from avr.data import tables
from avr.serving import journal
from avr.serving.journal import Place, QueriesError, Writer, check_complete, compact, journalled


def prompt(number):
    return Prompt.of((user(f"süß\u2028 {number}"),), "own\nanswer")


def tree_row(number, quarantined=""):
    return tree_to_dict(replace(plant(prompt(number), "recipe"), quarantined=quarantined))


def set_row(number, quarantined=""):
    return set_to_dict(replace(open_set(prompt(number), "recipe"), quarantined=quarantined))


ROWS = [set_row(n, "too long" if n % 3 == 2 else "") for n in range(10)]


QUERIES = pa.schema([("id", pa.string()), ("query", pa.string())])


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "sample", "outputs", tables.OUTPUTS)


def ids(rows):
    return [row["id"] for row in rows]


def commit(place, rows, prefix="shard"):
    with Writer(place.journal, prefix) as writer:
        for row in rows:
            writer.commit(row)


def tear(place, row, prefix="shard", cut=-1):
    """A journal whose only line was cut off before its end; returns the file."""
    file = place.journal / f"{prefix}-torn.jsonl"
    place.journal.mkdir(parents=True, exist_ok=True)
    file.write_text((json.dumps(row) + "\n")[:cut])
    return file


def finished(place, done, quarantined):
    tables.write_part(place.folder / place.out, "part", done, place.schema)
    tables.write_part(place.folder / "quarantine", "part", quarantined, place.schema)


def in_order(rows):
    """Plain rows, sorted by id."""
    return sorted(json.loads(json.dumps(list(rows))), key=itemgetter("id"))


def stored(place, folder):
    return in_order(tables.read_rows(place.folder / folder))


def split(rows):
    return [r for r in rows if not r["quarantined"]], [r for r in rows if r["quarantined"]]


def assert_compacted(place, rows):
    done, quarantined = split(rows)
    assert stored(place, place.out) == in_order(done)
    assert stored(place, "quarantine") == in_order(quarantined)
    assert not place.journal.exists()
    assert place.ended() == set(ids(rows))


def test_committed_row_is_there_before_the_writer_closes(place):
    assert (list(journalled(place.journal)), place.ended()) == ([], set())
    with Writer(place.journal, "shard") as writer:
        for number, row in enumerate(ROWS, 1):
            writer.commit(row)
            assert ids(journalled(place.journal)) == ids(ROWS[:number])
    assert list(journalled(place.journal)) == json.loads(json.dumps(ROWS))


def test_commit_has_the_whole_line_synced_before_it_returns(place, monkeypatch):
    synced = []
    monkeypatch.setattr(journal.os, "fsync", lambda _: synced.extend(journalled(place.journal)))
    with Writer(place.journal, "shard") as writer:
        writer.commit(ROWS[0])
        assert ids(synced) == ids(ROWS[:1])


@pytest.mark.parametrize("cut", [1, 40, -2, -1])  # -1: the line is whole but for its newline
def test_torn_last_line_is_not_committed_and_the_others_are(place, cut):
    commit(place, ROWS[:3], "a")
    torn = tear(place, ROWS[3], "b", cut)
    torn.write_text("".join(json.dumps(row) + "\n" for row in ROWS[4:6]) + torn.read_text())
    commit(place, ROWS[6:], "c")
    assert ids(journalled(place.journal)) == ids([*ROWS[:3], *ROWS[4:]])
    assert ROWS[3]["id"] not in place.ended()


def test_id_in_two_journals_or_twice_in_one_comes_once(place):
    commit(place, ROWS[:3], "a")
    commit(place, [*ROWS[1:5], ROWS[1]], "b")
    assert ids(journalled(place.journal)) == ids(ROWS[:5])


def test_writer_never_continues_a_file_that_is_there(place):
    torn = tear(place, ROWS[0])
    before = torn.read_text()
    commit(place, ROWS[1:2])
    commit(place, ROWS[2:3])
    assert torn.read_text() == before
    assert len(list(place.journal.iterdir())) == 3
    assert set(ids(journalled(place.journal))) == set(ids(ROWS[1:3]))


def test_prefix_takes_the_journals_of_one_shard(place):
    commit(place, ROWS[:1], "one")
    commit(place, ROWS[1:3], "two")
    assert ids(journalled(place.journal, "two")) == ids(ROWS[1:3])
    assert list(journalled(place.journal, "three")) == []


def test_ended_are_the_ids_of_journal_parquet_and_quarantine(place):
    finished(place, ROWS[:2], ROWS[2:3])
    commit(place, ROWS[4:6])
    assert place.ended() == set(ids([*ROWS[:3], *ROWS[4:6]]))


@pytest.mark.parametrize(
    ("schema", "row"), [(tables.TREES, tree_row), (tables.OUTPUTS, set_row)], ids=["trees", "sets"]
)
def test_compacted_rows_lie_in_parquet_as_they_were_committed(tmp_path, schema, row):
    place = Place(tmp_path / "step", "out", schema)
    rows = [row(1), row(2, "no room"), row(3)]
    compact(place)  # no journal yet, so nothing to do
    assert not place.folder.exists()
    commit(place, rows)
    compact(place)
    assert_compacted(place, rows)


def test_rows_are_spread_over_parts_of_bounded_size(place, monkeypatch):
    monkeypatch.setattr(journal, "_ROWS_PER_PART", 4)
    commit(place, ROWS)
    for _ in range(2):  # the second finds nothing to do
        compact(place)
        assert_compacted(place, ROWS)
    parts = (place.folder / "outputs").glob("*.parquet")
    assert sorted(len(tables.read_ids(part)) for part in parts) == [1, 3, 3]


def test_journal_that_outlives_its_parquet_doubles_nothing(place, monkeypatch, tmp_path):
    monkeypatch.setattr(journal, "_ROWS_PER_PART", 4)
    commit(place, ROWS)
    shutil.copytree(place.journal, tmp_path / "kept")
    compact(place)
    shutil.copytree(tmp_path / "kept", place.journal)
    commit(place, [set_row(11)], "0-before-all-others")
    compact(place)
    assert_compacted(place, [*ROWS, set_row(11)])


@pytest.mark.parametrize("num_parts", range(7))
def test_compact_killed_after_any_part_ends_the_same_when_done_again(place, monkeypatch, num_parts):
    commit(place, ROWS)
    written = []

    def write_then_die(*arguments, **options):
        if len(written) == num_parts:
            raise KeyboardInterrupt
        written.append(tables.write_part(*arguments))

    with monkeypatch.context() as dying:
        dying.setattr(journal, "_ROWS_PER_PART", 4)
        dying.setattr(journal, "write_part", write_then_die)
        dying.setattr(journal, "remove", write_then_die)
        with pytest.raises(KeyboardInterrupt):
            compact(place)
    assert place.ended() == set(ids(ROWS))
    compact(place)
    assert_compacted(place, ROWS)


def wrong(place, wanted):
    with pytest.raises(QueriesError) as caught:
        check_complete(set(wanted), place)
    return str(caught.value)


def test_complete_queries_are_counted(place):
    assert check_complete(set(), place) == (0, 0)
    finished(place, *split(ROWS))
    assert check_complete(set(ids(ROWS)), place) == (7, 3)


def test_lost_strange_and_doubled_queries_are_errors_that_name_the_first(place):
    finished(place, *split(ROWS))
    late = [set_row(11), set_row(12)]
    lost, strange, twice = (min(ids(rows)) for rows in (late, ROWS[:2], ROWS[1:3]))
    again = "run the job again"
    assert wrong(place, ids([*ROWS, *late])) == f"2 queries are lost (first: {lost}); {again}"
    message = f"2 queries were not asked for (first: {strange}); choose another run_dir"
    assert wrong(place, ids(ROWS[2:])) == message
    finished(place, ROWS[:3], ROWS[1:])
    message = f"2 queries are in both {place.out}/ and quarantine/ (first: {twice}); remove "
    assert wrong(place, ids(ROWS)) == f"{message}{place.folder / 'quarantine'} and {again}"


def test_all_quarantined_is_an_error_with_the_first_reason_and_the_way_out(place):
    finished(place, [], [set_row(1, "first reason"), set_row(2, "second reason")])
    message = wrong(place, ids([set_row(1), set_row(2)]))
    assert message.startswith("all 2 queries were quarantined (first: first reason); remove")
    assert str(place.folder / "quarantine") in message


def test_a_place_is_finished_when_every_query_asked_has_left_the_journals(place):
    assert not place.finished()
    tables.write_rows(place.asked, ({"id": each, "query": ""} for each in ids(ROWS)), QUERIES)
    commit(place, ROWS)
    # All are committed, and a kill may still leave some of them in the journals alone.
    assert place.ended() == set(ids(ROWS)) and not place.finished()
    compact(place)
    assert place.finished()
    more = ids([*ROWS, set_row(11)])
    tables.write_rows(place.asked, ({"id": each, "query": ""} for each in more), QUERIES)
    assert not place.finished()


ATTEMPTS = st.lists(
    st.tuples(st.lists(st.integers(0, 7), max_size=6), st.none() | st.floats(0, 1)), max_size=6
)


@settings(max_examples=40, deadline=None)
@given(ATTEMPTS, st.sets(st.integers(0, 7)), st.integers(1, 3))
def test_every_committed_id_is_there_once_after_compact(tmp_path_factory, attempts, before, size):
    place = Place(tmp_path_factory.mktemp("run"), "outputs", tables.OUTPUTS)
    finished(place, *split([ROWS[number] for number in before]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_ROWS_PER_PART", size)
        patch.setattr(journal.os, "fsync", lambda _: None)
        for number, (numbers, torn) in enumerate(attempts):
            # Attempts may come to different ends with a query: quarantined, or not.
            commit(place, [set_row(n, "no" * ((n + number) % 2)) for n in numbers], f"{number}")
            if torn is not None:
                line = json.dumps(set_row(8 + number))
                (file,) = place.journal.glob(f"{number}-*")
                file.write_text(file.read_text() + line[: 1 + int(torn * (len(line) - 1))])
        compact(place)
    done, quarantined = stored(place, "outputs"), stored(place, "quarantine")
    committed = before.union(*(numbers for numbers, _ in attempts))
    assert sorted(ids(done + quarantined)) == sorted(ids(map(set_row, committed)))
    assert split(done + quarantined) == (done, quarantined)
