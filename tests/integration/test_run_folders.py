"""A job's first steps in a folder that is not its own."""

import pytest

from avr.config import ConfigError, RunConfig
from avr.pipeline import run
from avr.pipeline.run import run_steps

pytestmark = pytest.mark.integration
STEPS = ("grow_rsft", "rsft")


def begun_in(folder, monkeypatch):
    """Run a job without steps up to where the cluster would be started."""
    monkeypatch.setattr(run, "connect", lambda *_: None)
    config = RunConfig(run_dir=str(folder))
    run_steps(lambda *_: None, config, [], STEPS, STEPS, lambda *_: None)


def test_a_folder_with_other_things_and_no_run_is_refused_and_left_as_it_was(tmp_path, monkeypatch):
    (tmp_path / ".draft.txt.0123abcd.tmp").write_text("the user's")
    (tmp_path / "thesis.tex").write_text("the user's")
    with pytest.raises(ConfigError) as caught:
        begun_in(tmp_path, monkeypatch)
    assert str(caught.value) == (
        f"run_dir: {tmp_path} holds no run but other things (.draft.txt.0123abcd.tmp, thesis.tex);"
        " a run needs a new or an empty folder"
    )
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_goes_on_in_its_folder_and_removes_what_a_kill_has_left(tmp_path, monkeypatch):
    for name in ("ledger/.grow_rsft.json.0123abcd.tmp", "notes/.a.txt.0123abcd.tmp"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("half")
    begun_in(tmp_path, monkeypatch)
    assert [p.parent.name for p in tmp_path.rglob(".*.tmp")] == ["notes"]
