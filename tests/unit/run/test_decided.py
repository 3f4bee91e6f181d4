"""What decides a step's result is all of its fields but those marked as speed only."""

from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path

import pytest
from configured import MODULES, steps_of

from avr.config.answers import EvaluateConfig, RefineConfig
from avr.config.fields import SPEED_ONLY
from avr.config.load import load
from avr.config.table import TableConfig
from avr.recipes.answer import AnswerConfig
from avr.recipes.baseline import BaselineConfig
from avr.recipes.rft import RftConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config
from avr.run import decided as run_decided
from avr.run.decided import fields_of
from avr.run.ledger import Ledger, LedgerError
from avr.run.step import Step
from avr.training.methods.rsft import Rsft

POLICY = "policy.model=avr/miniature/models/policy"
OTHER = "avr/miniature/models/corrector"
ANSWERS = "tests/unit/answers.json"
MEMBERS = """{
    model: {reward_model: {model: avr/miniature/models/reward, use_gpu: false}},
    right: {kind: maths}, passed: {kind: code}, mine: {kind: function, function: "builtins:len"},
    rated: {kind: judge, judge: {endpoint: {model: m}}},
}""".replace("\n", " ")
VERIFIED = [
    "reward_model=null",
    "reward.kind=ensemble",
    f"reward.members={MEMBERS}",
    "growth.corrector_sees=feedback",
    "growth.criticised_share=0.5",
    "evaluation=null",
]
RECIPES = {
    "stage1": (Stage1Config, []),
    "verified": (Stage1Config, VERIFIED),
    "stage2": (Stage2Config, ["stage1_dir=null", POLICY]),
    "baseline_dpo": (BaselineConfig, []),
    "baseline_simpo": (BaselineConfig, []),
    "meta_rewarding": (BaselineConfig, []),
    "rft": (RftConfig, [POLICY, f"prompts.sample.path={ANSWERS}"]),
    "answer": (AnswerConfig, [POLICY]),
    "evaluate": (EvaluateConfig, [POLICY, f"baseline.path={ANSWERS}"]),
    "refine": (RefineConfig, [POLICY, f"answers.path={ANSWERS}"]),
    "table": (TableConfig, ["entrants={seed: {model: avr/miniature/models/policy}}"]),
}


@cache
def steps_in(recipe):
    schema, overrides = RECIPES[recipe]
    file = {"verified": "miniature/stage1", "rft": "maths/rft"}.get(recipe, f"miniature/{recipe}")
    config = load(schema, f"conf/{file}.yaml", overrides)
    if schema is TableConfig:
        config.entrants = {"seed": config.entrants["seed"]}
    return steps_of(config)


@pytest.fixture(autouse=True, scope="module")
def weights_read_once():
    """A thousand variants have the same few models, whose weights would be read for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_decided, "weights_id", cache(run_decided.weights_id))
        yield


def test_no_recipe_is_left_out():
    files = {f.stem for f in Path("avr/recipes").glob("[a-z]*.py")}
    assert {MODULES[schema].__name__.rpartition(".")[2] for schema, _ in RECIPES.values()} == files


STEPS = [(recipe, name) for recipe in RECIPES for name in steps_in(recipe)]


def other(value):
    return value.name if isinstance(value, Step) else NotImplemented


def decided(step):
    return fields_of(step, other, step.name)


def variants(value, what="itself"):
    """Values that differ from this one in a single place, each with the name of the place."""
    if what == "weights" and isinstance(value, str):
        yield "", OTHER if value != OTHER else "avr/miniature/models/policy"
    elif what == "texts":
        yield "", {**value, "quantization": "fp8"}
    elif what == "content":
        yield "", "avr/miniature/data/dpo.jsonl" if "dpo" not in str(value) else ANSWERS
    elif isinstance(value, Step):
        yield "", replace(value, name=f"{value.name}-other")
    elif isinstance(value, Enum):
        yield "", next(each for each in type(value) if each is not value)
    elif isinstance(value, bool):
        yield "", not value
    elif isinstance(value, int | float):
        yield "", value + 1
    elif isinstance(value, str):
        yield "", f"{value} and more"
    elif value is None:
        yield "", "something"
    elif is_dataclass(value):
        for each in fields(value):
            how = each.metadata.get("decides_by", "itself")
            for place, changed in variants(getattr(value, each.name), how):
                if how == "nothing":
                    continue
                with suppress(ValueError):  # a value that its type refuses
                    yield f".{each.name}{place}", replace(value, **{each.name: changed})
    elif isinstance(value, dict):
        yield "", {**value, "more": 1}
        for key, each in value.items():
            for place, changed in variants(each):
                yield f".{key}{place}", {**value, key: changed}
    elif isinstance(value, frozenset):
        yield "", value | {"more"}
    elif isinstance(value, list | tuple):
        yield "", type(value)([*value, "more"])
        for number, each in enumerate(value):
            for place, changed in variants(each):
                yield (
                    f"[{number}]{place}",
                    type(value)([*value[:number], changed, *value[number + 1 :]]),
                )
    else:
        raise TypeError(value)


@pytest.mark.parametrize(("recipe", "name"), STEPS, ids=map("-".join, STEPS))
def test_any_field_that_is_not_speed_only_decides_and_refuses_a_resume(tmp_path, recipe, name):
    step = steps_in(recipe)[name]
    now, places, ledger = decided(step), 0, Ledger(tmp_path, print)
    ledger.step(name, now, dict)
    for each in fields(step):
        how = each.metadata.get("decides_by", "itself")
        if each.name == "name" or how == "nothing":
            continue
        for place, changed in variants(getattr(step, each.name), how):
            places += 1
            other_step = decided(replace(step, **{each.name: changed}))
            assert other_step != now, f"{each.name}{place}"
            with pytest.raises(LedgerError, match="was made under other settings"):
                ledger.step(name, other_step, pytest.fail)
    assert places >= 3


@pytest.mark.parametrize(("recipe", "name"), STEPS, ids=map("-".join, STEPS))
def test_what_is_speed_only_does_not_decide(recipe, name):
    step = steps_in(recipe)[name]
    for each in fields(step):
        if each.metadata.get("decides_by") == "nothing":
            assert decided(replace(step, **{each.name: "another"})) == decided(step)


@dataclass(frozen=True)
class Opaque(Step):
    thing: object
    fast: object = field(metadata=SPEED_ONLY)


def test_a_value_without_a_stable_form_is_an_error_unless_it_is_speed_only():
    assert decided(Opaque("toy", (1, "a"), object()))["thing"] == [1, "a"]
    with pytest.raises(TypeError, match=r"toy\.thing: a object has no stable form"):
        decided(Opaque("toy", object(), object()))


@dataclass(frozen=True)
class OtherRsft(Rsft):
    """The same fields, and other tokens."""


def test_the_class_of_a_method_decides():
    assert decided(Opaque("toy", Rsft(), None)) != decided(Opaque("toy", OtherRsft(), None))
