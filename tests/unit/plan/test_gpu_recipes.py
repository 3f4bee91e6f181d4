"""Recipes for GPUs that nobody has run: they fit, and hold nothing that is for CPUs."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from configured import needs, recipe_of

from avr.config.answers import EvaluateConfig
from avr.config.load import load
from avr.config.roles import RoleConfig
from avr.config.table import TableConfig
from avr.config.training import TrainingConfig
from avr.engines.model_config import ModelConfigError
from avr.plan.fit import NodeType, misfits
from avr.plan.memory import memory_of
from avr.recipes.baseline import BaselineConfig
from avr.recipes.rft import RftConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config
from avr.recipes.stage2 import planned as with_seed
from avr.steps.ask import check_roles
from avr.steps.train import Train

MODELS = Path("tests/models")
SCHEMAS = {
    "stage1": Stage1Config,
    "stage1_80gb": Stage1Config,
    "stage2": Stage2Config,
    "stage2_80gb": Stage2Config,
    "baseline_dpo": BaselineConfig,
    "rft": RftConfig,
    "table": TableConfig,
    "evaluate_alpaca": EvaluateConfig,
}
FOLDERS = ("one_gpu", "maths_8gpu", "code_8gpu")
RECIPES = [file for folder in FOLDERS for file in sorted(Path("conf", folder).glob("*.yaml"))]
ONE_GPU = [file for file in RECIPES if file.parent.name == "one_gpu"]
by_name = {"ids": lambda file: f"{file.parent.name}/{file.stem}"}
# Stage I's model, which evaluate_alpaca asks, has the shape of its policy.
LEFT = {"runs/one_gpu/dpo": "Qwen/Qwen2.5-1.5B-Instruct"}


def loaded(file, *overrides):
    config = load(SCHEMAS[file.stem], file, overrides)
    config.policy.model = LEFT.get(config.policy.model, config.policy.model)
    return with_seed(config) if isinstance(config, Stage2Config) else config


def read(model):
    file = MODELS / model / "config.json"
    if not file.exists():
        raise ModelConfigError(f"{model} is not in {MODELS}")
    return json.loads(file.read_text())


def misfits_in(memory):
    return [one for one in memory if one.problem or one.tight or one.unknown]


def sections(config, kind):
    """Every section of a kind in a configuration, at any depth, by its name."""
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, kind):
            yield field.name, value
        elif is_dataclass(value):
            yield from sections(value, kind)


@pytest.mark.parametrize("file", RECIPES, **by_name)
def test_every_engine_and_every_training_fits_the_gpu_that_its_recipe_names(file):
    config = loaded(file)
    memory = memory_of(needs(config), config.gpu_memory_gib, read=read)
    assert memory and not misfits_in(memory)


def test_a_model_that_does_not_fit_would_be_seen():
    config = loaded(Path("conf/one_gpu/stage1.yaml"), "corrector.model=Qwen/Qwen2.5-32B-Instruct")
    (one,) = misfits_in(memory_of(needs(config), config.gpu_memory_gib, read=read))
    assert one.pool == "corrector" and one.problem


@pytest.mark.parametrize("file", RECIPES, **by_name)
def test_every_setting_is_one_that_vllm_or_trl_or_peft_has(file):
    config = loaded(file)
    check_roles(dict(sections(config, RoleConfig)))
    for step in recipe_of(config).steps:
        if isinstance(step, Train):
            step.check()


@pytest.mark.parametrize("file", RECIPES, **by_name)
def test_a_recipe_says_in_its_head_that_nobody_has_run_it(file):
    lines = file.read_text().splitlines()
    end = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    assert "Nobody has run it" in " ".join(lines[:end])
    assert max(map(len, lines)) < 120


@pytest.mark.parametrize("file", RECIPES, **by_name)
def test_nothing_that_is_for_cpus_is_left_in_a_recipe_for_gpus(file):
    config = loaded(file)
    assert config.ray == {}
    roles = dict(sections(config, RoleConfig))
    for role in roles.values():
        assert role.use_gpu and role.env == {}
        assert not role.engine.keys() & {"enforce_eager", "distributed_executor_backend"}
        assert role.engine.get("dtype", "bfloat16") == "bfloat16"
    for training in dict(sections(config, TrainingConfig)).values():
        assert training.use_gpu and training.trl["bf16"]


@pytest.mark.parametrize("file", ONE_GPU, **by_name)
def test_one_gpu_and_few_cpus_are_enough(file):
    assert misfits(needs(loaded(file)), [NodeType("workstation", 1, 4, 1)]) == []


@pytest.mark.parametrize("file", [f for f in ONE_GPU if "80gb" not in f.stem], **by_name)
def test_cards_that_keep_a_sixteenth_for_error_correction_are_enough(file):
    assert loaded(file).gpu_memory_gib == 24
    assert not misfits_in(memory_of(needs(loaded(file)), 22.5, read=read))


@pytest.mark.parametrize("size", ["", "_80gb"])
def test_engines_that_share_a_gpu_take_no_more_than_they_are_told(size):
    """What vLLM needs before keys and values, and these, which a recipe sets by their bytes."""
    config = loaded(Path(f"conf/one_gpu/stage2{size}.yaml"))
    gpu = config.gpu_memory_gib * 2**30
    for one in memory_of(needs(config), config.gpu_memory_gib, read=read):
        if one.pool == "training worker":
            continue
        engine = getattr(config, one.pool).engine
        assert one.least + engine["kv_cache_memory_bytes"] < engine["gpu_memory_utilization"] * gpu


@pytest.mark.parametrize("size", ["", "_80gb"])
def test_the_steps_of_both_stages_on_one_gpu_ask_different_rows(size):
    stages = [loaded(Path(f"conf/one_gpu/stage{n}{size}.yaml")) for n in (1, 2)]
    sets = [vars(stage.prompts) for stage in stages]
    windows = [range(p.skip, p.skip + p.limit) for each in sets for p in each.values()]
    held_out = [stage.evaluation.prompts for stage in stages]
    assert held_out[0] == held_out[1]
    windows.append(range(held_out[0].skip, held_out[0].skip + held_out[0].limit))
    asked = [row for window in windows for row in window]
    assert len(asked) == len(set(asked))
    assert stages[1].stage1_dir == stages[0].run_dir
    assert stages[1].seed_model == stages[0].policy.model


def test_models_on_one_gpu_take_turns_where_they_need_not_be_there_at_once():
    steps = recipe_of(loaded(Path("conf/one_gpu/stage1.yaml"))).steps
    plans = {step.name: step.needs() for step in steps if step.needs() is not None}
    assert not any(plans[name].together for name in ("grow_rsft", "grow_dpo", "evaluate"))
