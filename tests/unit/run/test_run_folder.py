"""Only a folder of our own is a run directory, and only files of our own are removed from it."""

import shutil

import pytest
from upath import UPath

from avr.config.errors import ConfigError
from avr.run.folder import check_ours, own_folders
from avr.storage import sweep, written

STEPS = ("grow_rsft", "rsft")


def test_what_a_killed_writer_leaves_is_known_by_its_name(tmp_path):
    (tmp_path / "rsft").mkdir()
    with written(tmp_path / "rsft" / "a.parquet") as temporary:
        temporary.write_text("half")
        left = shutil.copy(temporary, tmp_path / "copy")
        name = temporary.name
    for folder in (tmp_path, tmp_path / "rsft"):
        shutil.copy(left, folder / name)
    sweep(tmp_path, own_folders(STEPS))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.parquet", "copy", "rsft"]


def test_only_unfinished_files_of_our_own_are_removed(tmp_path):
    ours = ["ledger/.grow_rsft.json.0123abcd.tmp", "grow_rsft/trees/.a.parquet.89abcdef.tmp"]
    theirs = [
        "grow_rsft/.swap.tmp",
        "grow_rsft/.notes.0123abc.tmp",
        "grow_rsft/.folder.0123abcd.tmp/file",
        "other/.a.parquet.89abcdef.tmp",
    ]
    for name in (*ours, *theirs):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    sweep(tmp_path, own_folders(STEPS))
    assert [name for name in ours if (tmp_path / name).exists()] == []
    assert [name for name in theirs if not (tmp_path / name).exists()] == []


def test_a_run_that_was_killed_before_its_first_entry_may_go_on(tmp_path):
    check_ours(tmp_path / "new", STEPS)
    for name in ("grow_rsft", "rsft.training", "logs", "parity", "lost+found"):
        (tmp_path / name).mkdir()
    (tmp_path / ".lock").write_text("")
    check_ours(tmp_path, STEPS)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match=r"other files \(thesis\.tex\)"):
        check_ours(tmp_path, STEPS)
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "accounts.json").write_text("somebody else's")
    with pytest.raises(ConfigError, match=r"other files \(thesis\.tex\)"):
        check_ours(tmp_path, STEPS)
    (tmp_path / "ledger" / "rsft.json").write_text("{}")
    check_ours(tmp_path, STEPS)


def test_the_same_holds_on_an_object_store():
    place = UPath("memory://bucket/run")
    check_ours(place, STEPS)
    (place / "thesis.tex").write_text("the user's")
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        check_ours(place, STEPS)
