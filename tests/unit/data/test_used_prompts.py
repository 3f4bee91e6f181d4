"""Which prompts of a run its models were trained on is read from its ledger."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from avr.config.prompts import PromptsConfig
from avr.core.messages import content_id
from avr.data.prompt_sets import ingest
from avr.data.schemas import PROMPTS
from avr.data.tables import read_rows, write_rows
from avr.data.used_prompts import built_on, prompts_of, training_prompts


def begun(run, step, inputs, *, prompts=()):
    (run / "ledger").mkdir(parents=True, exist_ok=True)
    (run / "ledger" / f"{step}.json").write_text(json.dumps({"inputs": inputs, "seconds": 0.0}))
    if prompts:
        rows = [{"id": one, "query": [], "answer": None, "source": "file:1"} for one in prompts]
        write_rows(run / step / "prompts.parquet", rows, PROMPTS)
    return {"after": content_id(inputs)}


def test_prompts_that_something_is_built_on_are_the_trainings(tmp_path):
    grown = begun(tmp_path, "my_growth", {"seed": 0}, prompts=["a", "b"])
    other = begun(tmp_path, "other_growth", {"apart_from": [grown]}, prompts=["c"])
    rows = begun(tmp_path, "rows", {"trees": other})
    begun(tmp_path, "training", {"rows": rows})
    begun(tmp_path, "evaluate", {"apart_from": [grown, other]}, prompts=["held out"])
    found = training_prompts(tmp_path)
    assert list(found) == ["my_growth", "other_growth"]
    assert [("a" in ids, "c" in ids, "held out" in ids) for ids in found.values()] == [
        (True, False, False),
        (False, True, False),
    ]
    assert built_on(tmp_path)["my_growth"] == {"seed": 0}


def test_a_folder_without_a_ledger_has_none(tmp_path):
    assert training_prompts(tmp_path) == {}


def problem(text, test):
    """A row with the fields of MBPP's."""
    return {"text": text, "test_list": [test], "test_setup_code": "", "code": "pass"}


# As in MBPP: 872 of the training split and 216 of the test split ask the same, with other tests.
TRAINED = [problem("Is one list part of another?", "assert part([1], [1])"), problem("b", "assert")]
HELD_OUT = [
    problem("Is one list  part of another?\n", "assert is_part([2], [1])"),
    problem("c", "assert"),
    problem("b", "assert"),
]


def taken_in(folder, config, rows, taken):
    file = folder / "rows.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = replace(config, path=str(file))
    ingest(config, folder / "prompts.parquet", folder / "rejected.parquet", taken=taken)
    reasons = [row["reason"] for row in read_rows(folder / "rejected.parquet")]
    return [row["source"][-1] for row in read_rows(folder / "prompts.parquet")], reasons


def prompts_in(recipe):
    """The prompt sets of a recipe, by name; a table has one."""
    sets = yaml.safe_load(recipe.read_text())["prompts"]
    sets = {"": sets} if "path" in sets else sets
    return {name: PromptsConfig(**one) for name, one in sets.items()}


@pytest.mark.parametrize("recipes", ["code", "code_8gpu"])
def test_a_trained_question_is_found_in_held_out_prompts_that_show_another_test(tmp_path, recipes):
    trained, held_out = (
        next(iter(prompts_in(Path("conf") / recipes / name).values()))
        for name in ("stage1.yaml", "table.yaml")
    )
    # The windows of rows are of the files there.
    trained, held_out = (replace(one, skip=0, limit=None) for one in (trained, held_out))
    run = tmp_path / "run"
    assert taken_in(run / "grow_rsft", trained, TRAINED, {}) == (["1", "2"], [])
    # A set of one's own may ask the same twice.
    taken = prompts_of(run, ["grow_rsft"])
    kept, reasons = taken_in(tmp_path / "answer", held_out, HELD_OUT, taken)
    assert kept == ["2"]
    assert reasons == [
        "the same question as one in grow_rsft",
        "the same prompt as one in grow_rsft",
    ]
    # Whole prompts alone do not tell.
    kept, _ = taken_in(tmp_path / "blind", replace(held_out, question_field=None), HELD_OUT, taken)
    assert kept == ["1", "2"]


def test_all_recipes_of_programs_name_what_a_row_asks():
    recipes = sorted(Path("conf").glob("code*/*.yaml"))
    named = [one.question_field for recipe in recipes for one in prompts_in(recipe).values()]
    assert len(recipes) == 10 and set(named) == {"text"}


def test_prompts_from_before_there_were_questions_are_read(tmp_path):
    rows = [{"id": "a", "query": [], "answer": None, "source": "file:1"}]
    file = tmp_path / "step" / "prompts.parquet"
    write_rows(file, rows, PROMPTS.remove(PROMPTS.get_field_index("question")))
    found = prompts_of(tmp_path, ["step"])["step"]
    assert "a" in found and found.num_rows == 1


def test_a_row_without_its_question_is_set_aside(tmp_path):
    config = PromptsConfig(question_field="ask")
    rows = [{"prompt": "one", "ask": "one"}, {"prompt": "two", "ask": " "}, {"prompt": "three"}]
    kept, reasons = taken_in(tmp_path, config, rows, {})
    assert kept == ["1"]
    assert reasons[0] == "field 'ask' is empty, not a text"
    assert reasons[1] == "no field 'ask'; the row has prompt"
