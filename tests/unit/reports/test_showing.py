"""What a user sees of trees and training rows, and how one leads to the other."""

import subprocess
import sys
from dataclasses import replace

import pytest
from made_rows import GOOD, pairs_of, rows_of

from avr.core.tree import tree_to_dict
from avr.data.schemas import PAIRS, TREES, pair_row, rsft_row
from avr.data.tables import write_part, write_rows
from avr.reports.showing import is_about, shown

TREE = tree_to_dict(GOOD)
(ROW,), _ = rows_of(GOOD)
PAIR = next(pair for pairs in pairs_of(GOOD)[0].values() for pair in pairs)


def test_a_tree_is_shown_with_every_text_and_reward_in_order():
    words = shown(TREE)
    places = [words.index(f"  {text}\n") for text in ("question", "first", "weak", "strong")]
    assert places == sorted(places)
    for answer in GOOD.responses():
        assert f"{answer.id}, reward {answer.reward:.2f}\n" in words
    assert "quarantined: too long" in shown(tree_to_dict(replace(GOOD, quarantined="too long")))
    (level,) = GOOD.levels
    unjudged = replace(level, num_unscored=2, unscored_reason="too long for the reward model")
    words = shown(tree_to_dict(replace(GOOD, levels=(unjudged,))))
    assert "2 without a reward, such as: too long for the reward model" in words
    assert "without a reward" not in shown(TREE)


def test_training_rows_are_shown_with_what_they_come_from():
    assert f"gain +2.00, from {GOOD.id}, id-first, id-strong, id-d" in shown(rsft_row(ROW))
    words = shown(pair_row(PAIR))
    assert words.index("chosen:") < words.index("rejected:")
    assert all(id_ in words for id_ in PAIR.node_ids)


def test_a_row_of_another_kind_is_shown_name_by_name():
    assert shown({"id": "x", "messages": [], "chosen": "a"}) == "id: x\nmessages: []\nchosen: a"


def test_a_row_leads_to_its_tree_and_a_tree_to_its_rows():
    for id_ in (GOOD.id, GOOD.prompt.id, "id-strong", "id-d"):
        assert is_about(TREE, id_)
    assert is_about(rsft_row(ROW), GOOD.id) and is_about(rsft_row(ROW), "id-d")
    assert not is_about(TREE, "first") and not is_about(rsft_row(ROW), "id-weak")


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "jobs/show.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path):
    trees = [tree_to_dict(replace(GOOD, id=f"tree-{n}")) for n in range(5)]
    write_part(tmp_path / "trees", "part", trees, TREES)
    write_part(tmp_path / "pairs", "part", [pair_row(PAIR)], PAIRS)
    return tmp_path


def test_the_job_prints_so_many_rows_or_those_about_an_id(folder):
    assert run(folder / "trees")[1].count("tree tree-") == 3
    assert run(folder / "trees", "--limit", 9)[1].count("tree tree-") == 5
    status, text = run(folder / "trees", "--id", "tree-4")
    assert status == 0 and text == shown(tree_to_dict(replace(GOOD, id="tree-4"))) + "\n"
    assert run(folder / "pairs", "--id", GOOD.id)[1].startswith(f"pair {PAIR.id}")


def test_what_cannot_be_shown_is_said_in_one_line(folder):
    assert run(folder / "none") == (1, f"nothing at {folder / 'none'}\n")
    assert run(folder / "trees", "--id", "x") == (1, f"no row of x in {folder / 'trees'}\n")
    text = f"no Parquet files in {folder}; there are in: {folder / 'pairs'}, {folder / 'trees'}\n"
    assert run(folder) == (1, text)
    write_rows(folder / "empty.parquet", [], PAIRS)
    assert run(folder / "empty.parquet") == (1, f"no rows in {folder / 'empty.parquet'}\n")
    status, text = run(folder / "trees", "--limit", 0)
    assert status == 2 and text.endswith("--limit is 0, must be at least 1\n")
    (folder / "outputs.json").write_text("[]")
    text = f"{folder / 'outputs.json'} is no Parquet file, nor a folder of them\n"
    assert run(folder / "outputs.json") == (1, text)
    (folder / "a.parquet").write_text("no Parquet")
    status, text = run(folder / "a.parquet")
    assert status == 1 and text.startswith(f"{folder / 'a.parquet'}: ") and text.count("\n") == 1
