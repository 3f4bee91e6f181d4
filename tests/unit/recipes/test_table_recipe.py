"""The table as a value: every entrant in its way, and what cannot be compared."""

import json

import pytest
from configured import recipe_of, steps_of

from avr.config.answers import Mode
from avr.config.checks import check_values
from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.roles import RoleConfig
from avr.config.table import EntrantConfig, TableConfig
from avr.core.messages import content_id
from avr.data.schemas import PROMPTS
from avr.data.tables import write_rows

POLICY = "avr/miniature/models/policy"


def table(*overrides):
    return load(TableConfig, "conf/miniature/table.yaml", overrides)


def compared(**entrants):
    """A table of these entrants; the first of them is the baseline."""
    baseline, judge = next(iter(entrants), "nobody"), RoleConfig(model="judge")
    return TableConfig(run_dir="r", baseline=baseline, entrants=entrants, reward_model=judge)


def wrong(config):
    with pytest.raises(ConfigError) as caught:
        check_values(config)
        recipe_of(config).check()
    return str(caught.value)


def test_every_entrant_of_the_shipped_table_answers_in_its_way():
    config = table("runs_dir=here")
    (step,) = steps_of(config).values()
    entrants = {each.name: each for each in step.entrants}
    assert list(entrants) == list(config.entrants)
    assert (entrants["seed"].mode, entrants["seed"].rounds) == (Mode.refine, 2)
    assert (entrants["seed"].model, entrants["seed"].at) == (POLICY, "entrants.seed.model")
    # A model is the last of the trainings on the way to it.
    assert entrants["stage1 dpo"].model == "here/stage1/dpo"
    assert entrants["stage1 dpo"].at == "entrants.stage1 dpo.trained"
    sampled = {name for name, each in entrants.items() if each.samples}
    assert sampled == {"best-of-n", "stage2 rsft", "stage2 dpo"}
    longer = {name for name, each in entrants.items() if each.sampling is not None}
    assert longer == {"stage2 rsft", "stage2 dpo"}
    assert entrants["stage2 dpo"].sampling == {"max_tokens": 640}
    runs = ("dpo", "meta-1", "meta-2", "simpo", "stage1", "stage1-10", "stage1-30", "stage2")
    assert step.used_in == tuple(f"here/{run}" for run in runs)


@pytest.mark.parametrize(
    ("entrant", "words"),
    [
        (EntrantConfig("m", ["n"]), "set either model or trained, not both"),
        (EntrantConfig("m", mode=Mode.refine), "mode is refine, rounds 0; only refine has rounds"),
        (EntrantConfig("m", rounds=1), "mode is plain, rounds 1; only refine has rounds"),
        (
            EntrantConfig("m", mode=Mode.refine, rounds=1, best_of=2),
            "best_of goes with mode plain, not refine",
        ),
        (EntrantConfig("m", tokens_of="a"), "tokens_of chooses among samples, and best_of is 1"),
        (EntrantConfig("m", best_of=0), "best_of is 0, must be at least 1"),
        (EntrantConfig("m", best_of=2, tokens_of="z"), "tokens_of is 'z'; entrants that spend"),
        (EntrantConfig(trained=["/none/dpo"]), "no training of ours has left /none/dpo"),
    ],
)
def test_an_entrant_that_cannot_answer_so_is_refused_by_its_name(entrant, words):
    said = wrong(compared(a=EntrantConfig("m"), b=entrant))
    assert said.startswith("entrants.b") and words in said


@pytest.mark.parametrize("name", ["", "a/b", "a<b", "a|b", "logs", "parity", ".", ".."])
def test_a_name_that_is_no_folder_s_or_no_row_s_is_refused(name):
    said = wrong(compared(**{"a": EntrantConfig("m"), name: EntrantConfig("m")}))
    assert said.startswith(f"entrants.{name}: the name must be fit for a folder and a row: not ")


def test_rows_and_baselines_that_there_are_not_or_are_twice_are_refused():
    again = {"a": EntrantConfig("m", mode=Mode.refine, rounds=1), "a r1": EntrantConfig("m")}
    assert wrong(compared(**again)) == "entrants: two of them would have the same row 'a r1'"
    config = compared(a=EntrantConfig("m"))
    config.baseline = "b"
    assert wrong(config) == "baseline is 'b'; there are: a"
    assert wrong(compared()) == "baseline is 'nobody'; there are: "


def test_a_model_whose_run_does_not_say_what_it_has_seen_is_refused(tmp_path):
    check = recipe_of(compared(copied=EntrantConfig(trained=[str(tmp_path / "dpo")]))).check
    (tmp_path / "dpo").mkdir()
    (tmp_path / "dpo/training.json").write_text("{}")
    with pytest.raises(ConfigError, match="which ones its model was trained on is not known"):
        check()
    (tmp_path / "ledger").mkdir()
    sampled = {"seed": 0}
    paired = {"outputs": {"after": content_id(sampled)}}
    for step, inputs in (("sample", sampled), ("pair", paired)):
        entry = json.dumps({"inputs": inputs, "seconds": 1.0, "result": {}})
        (tmp_path / "ledger" / f"{step}.json").write_text(entry)
    (tmp_path / "sample").mkdir()
    write_rows(tmp_path / "sample/prompts.parquet", [{"id": "p", "source": "s"}], PROMPTS)
    check()
