"""The runner, with steps and a recipe that are defined here: it knows none of ours."""

import json
from dataclasses import dataclass, field

import pytest

from avr.config.errors import ConfigError
from avr.config.fields import SPEED_ONLY
from avr.config.load import load
from avr.config.roles import RoleConfig
from avr.config.run import RunConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage1 import recipe as stage1
from avr.run import runner
from avr.run.ledger import LedgerError
from avr.run.recipe import Recipe
from avr.run.step import NotWorthIt, Report, Step
from avr.storage import write_text


@dataclass(frozen=True)
class Letters(Step):
    """Write a word's letters."""

    word: str
    policy: RoleConfig = field(default_factory=RoleConfig)
    hurry: bool = field(default=False, metadata=SPEED_ONLY)

    def work(self, run):
        write_text(run.of(self) / "letters.txt", "\n".join(self.word))
        return {"letters": len(self.word)}


@dataclass(frozen=True)
class Count(Step):
    """Count the letters of an earlier step, unless they are too few to be worth it."""

    letters: Letters
    least: int = 1

    def check(self):
        if self.least < 0:
            raise ConfigError("least is below 0")

    def work(self, run):
        count = len((run.of(self.letters) / "letters.txt").read_text().splitlines())
        if count < self.least:
            raise NotWorthIt(f"{count} letters are not worth it")
        return {"count": count}

    def report(self, run):
        return Report({"says": f"{run.ledger.result(self.name)['count']} letters"})


def toy(word="tree", least=1, hurry=False, role=None):
    letters = Letters("letters", word, role or RoleConfig(), hurry)
    return Recipe("Toy", (letters, Count("count", letters, least)))


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Runs a recipe in one folder, without a cluster; returns its summary."""
    monkeypatch.setattr(runner, "_connect", lambda *_: None)

    def run(recipe, folder=tmp_path / "run", **settings):
        runner.run(RunConfig(run_dir=str(folder), **settings), recipe)
        return json.loads((folder / "summary.json").read_text())

    return run


def test_a_recipe_is_run_step_by_step_and_says_what_came_of_each(go, tmp_path):
    summary = go(toy())
    assert summary["letters"] == {"letters": 4} and summary["count"] == {"says": "4 letters"}
    assert list(summary["seconds"]) == ["letters", "count"]
    assert (tmp_path / "run" / "config.yaml").exists()


def test_what_is_done_is_not_done_again_and_goes_on_only_under_the_same_settings(go, tmp_path):
    go(toy())
    (tmp_path / "run/letters/letters.txt").write_text("a\nb")  # to be seen if it were done again
    assert go(toy(hurry=True))["count"] == {"says": "4 letters"}
    with pytest.raises(LedgerError, match="other settings"):
        go(toy(word="twig"))
    with pytest.raises(LedgerError, match="other settings"):
        go(toy(least=2))


def test_some_steps_can_be_asked_for_and_unknown_ones_are_refused(go, tmp_path):
    assert "count" not in go(toy(), steps=["letters"])["seconds"]
    assert not (tmp_path / "run" / "config.yaml").exists()
    assert "count" in go(toy())["seconds"]
    with pytest.raises(ConfigError, match="unknown step 'cuont'; there are: letters, count"):
        go(toy(), steps=["cuont"])


def test_a_wrong_step_is_found_before_the_first_one_works(go, tmp_path):
    with pytest.raises(ConfigError, match="least is below 0"):
        go(toy(least=-1))
    assert not (tmp_path / "run").exists()


def test_a_step_that_ends_a_run_for_its_own_good_leaves_a_summary(go, tmp_path):
    with pytest.raises(NotWorthIt, match="4 letters are not worth it"):
        go(toy(least=5))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert list(summary["seconds"]) == ["letters"]


def test_a_value_without_a_stable_form_is_an_error_that_names_its_place(go):
    with pytest.raises(TypeError, match=r"letters\.word: a object has no stable form"):
        go(toy(word=object()))


def test_a_folder_with_other_things_and_no_run_is_refused_and_left_as_it_was(go, tmp_path):
    (tmp_path / ".draft.txt.0123abcd.tmp").write_text("the user's")
    (tmp_path / "thesis.tex").write_text("the user's")
    with pytest.raises(ConfigError) as caught:
        go(toy(), tmp_path)
    assert str(caught.value) == (
        f"run_dir: {tmp_path} holds no run but other files (.draft.txt.0123abcd.tmp, thesis.tex);"
        " choose a new or an empty folder"
    )
    assert len(list(tmp_path.iterdir())) == 2


def test_a_run_goes_on_in_its_folder_and_removes_what_a_kill_has_left(go, tmp_path):
    for name in ("ledger/.letters.json.0123abcd.tmp", "notes/.a.txt.0123abcd.tmp"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("half")
    go(toy(), tmp_path)
    assert [p.parent.name for p in tmp_path.rglob(".*.tmp")] == ["notes"]


def test_nothing_that_a_run_writes_holds_a_secret_of_its_environments(go, tmp_path, monkeypatch):
    """Of a configuration that passes the checks, and of a step that works with one of its roles."""
    secret, folder = "planted-in-settings-666", tmp_path / "run"
    monkeypatch.setenv("PLANTED_API_KEY", secret)
    monkeypatch.setattr(runner, "summarise", lambda *_: None)
    judge = f"{{model: avr/miniature/models/reward, use_gpu: false, env: {{API_KEY: {secret}}}}}"
    words = [f"run_dir={folder}", f"policy.env.API_KEY={secret}"]
    words += ["reward_model=null", "reward.kind=ensemble"]
    words += [f"reward.members={{one: {{reward_model: {judge}}}}}"]
    config = load(Stage1Config, "conf/miniature/stage1.yaml", words)
    runner.checked(config, stage1(config))
    config.steps = ["letters", "count"]
    runner.run(config, toy(role=config.policy))
    texts = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert {"config.yaml", "letters.json"} <= {path.name for path in texts}
    assert [path for path, text in texts.items() if secret.encode() in text] == []
