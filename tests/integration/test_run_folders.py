"""A job's first steps in a folder that is not its own."""

import pytest
from avr.pipeline import run
from avr.pipeline.plan_stage1 import plan_stage1
from avr.pipeline.run import Run, model_settings, run_steps

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.run import RunConfig
from avr.config.stage1 import Stage1Config

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


def test_nothing_that_a_run_writes_holds_a_secret_of_its_environments(tmp_path, monkeypatch):
    """All that `run_steps` and the ledger write, of a configuration that passes the checks."""
    secret, folder = "planted-in-settings-666", tmp_path / "run"
    monkeypatch.setenv("PLANTED_API_KEY", secret)
    monkeypatch.setattr(run, "connect", lambda *_: None)
    words = [
        f"run_dir={folder}",
        f"policy.env.API_KEY={secret}",
    ]
    config = load(Stage1Config, "conf/miniature/stage1.yaml", words)
    plan_stage1(config)

    class Recorded(Run):
        def grow_rsft(self):
            role = self.config.policy
            self.ledger.step("grow_rsft", {"policy": model_settings(role)}, lambda: {"n": 1})

    config.steps = ["grow_rsft"]
    run_steps(Recorded, config, [], config.steps, config.steps, lambda *_: None)
    texts = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert {"config.yaml", "grow_rsft.json"} <= {path.name for path in texts}
    assert [path for path, text in texts.items() if secret.encode() in text] == []
