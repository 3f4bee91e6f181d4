"""jobs/show.py prints what a folder of a run holds, or says in one line why it cannot."""

import subprocess
import sys
from dataclasses import replace

import pytest
from made_rows import GOOD
from test_showing import PAIR

from avr.core.tree import tree_to_dict
from avr.data.schemas import PAIRS, TREES, pair_row
from avr.data.tables import write_part, write_rows
from avr.reports.showing import shown


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
