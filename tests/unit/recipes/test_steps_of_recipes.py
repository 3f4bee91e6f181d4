"""Recipes as values: the steps of every configuration, their order, and what each builds on."""

from pathlib import Path

import pytest
from configured import MODULES, recipe_of

from avr.config.answers import EvaluateConfig, RefineConfig
from avr.config.errors import ConfigError
from avr.config.load import MOVED, load
from avr.config.table import TableConfig
from avr.recipes.answer import AnswerConfig
from avr.recipes.baseline import BaselineConfig
from avr.recipes.rft import RftConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config
from avr.run.recipe import Recipe

# The steps in their order; each with those that its fields hold.
STAGE1 = {
    "grow_rsft": set(),
    "select": {"grow_rsft"},
    "rsft": {"select"},
    "grow_dpo": {"grow_rsft", "rsft"},
    "pair": {"grow_dpo"},
    "dpo": {"rsft", "pair"},
}
STAGE2 = {
    "search": set(),
    "unroll": {"search"},
    "rsft": {"unroll"},
    "sample": {"search", "rsft"},
    "pair": {"sample"},
    "dpo": {"rsft", "pair"},
}
STAGE1_MADE = {"grow_rsft", "grow_dpo", "rsft", "dpo"}
BASELINE = {"sample": set(), "pair": {"sample"}, "dpo": {"pair"}}
RFT = {"sample": set(), "keep": {"sample"}, "rsft": {"keep"}}
JUDGED = {"answer": set(), "judge": {"answer"}}
CONFIGURATIONS = {
    "miniature/stage1": (
        Stage1Config,
        {**STAGE1, "evaluate": STAGE1_MADE},
    ),
    "miniature/one_gpu": (
        Stage1Config,
        {**STAGE1, "evaluate": STAGE1_MADE},
    ),
    "miniature/alpaca_eval": (Stage1Config, STAGE1),
    "miniature/stage2": (Stage2Config, {**STAGE2, "evaluate": {"search", "sample", "rsft", "dpo"}}),
    "miniature/baseline_dpo": (BaselineConfig, {**BASELINE, "evaluate": {"sample", "dpo"}}),
    "miniature/baseline_simpo": (BaselineConfig, {**BASELINE, "evaluate": {"sample", "dpo"}}),
    "miniature/meta_rewarding": (BaselineConfig, BASELINE),
    "miniature/answer": (AnswerConfig, {"answer": set()}),
    "miniature/baseline": (EvaluateConfig, {"answer": set()}),
    "miniature/evaluate": (EvaluateConfig, JUDGED),
    "miniature/self_refine": (EvaluateConfig, JUDGED),
    "miniature/refine": (RefineConfig, {"refine": set()}),
    "miniature/table": (TableConfig, {"answer": set()}),
    "miniature/best_of_n": (TableConfig, {"answer": set()}),
    "miniature/ablation_table": (TableConfig, {"answer": set()}),
    "llama3_8b/stage1": (Stage1Config, STAGE1),
    "llama3_8b/stage2": (Stage2Config, STAGE2),
    "llama3_8b/evaluate_alpaca": (EvaluateConfig, JUDGED),
    "llama3_8b/evaluate_arena": (EvaluateConfig, JUDGED),
    "llama3_8b/refine": (RefineConfig, {"refine": set()}),
    "one_gpu/evaluate_alpaca": (EvaluateConfig, JUDGED),
}
for size in ("", "_80gb"):
    CONFIGURATIONS |= {
        f"one_gpu/stage1{size}": CONFIGURATIONS["miniature/stage1"],
        f"one_gpu/stage2{size}": CONFIGURATIONS["miniature/stage2"],
    }
# Real models on tasks that a verifier knows the answers of, on CPUs and on eight GPUs.
for folder in ("maths", "code", "maths_8gpu", "code_8gpu"):
    CONFIGURATIONS |= {
        f"{folder}/stage1": (Stage1Config, STAGE1),
        f"{folder}/stage2": (Stage2Config, STAGE2),
        f"{folder}/baseline_dpo": (BaselineConfig, BASELINE),
        f"{folder}/rft": (RftConfig, RFT),
        f"{folder}/table": (TableConfig, {"answer": set()}),
    }
# Those start jobs, each of which has a recipe of its own.
REPLICATIONS = {"miniature/replicate", "miniature/ablation"}


def configuration(name, *overrides):
    return load(CONFIGURATIONS[name][0], f"conf/{name}.yaml", overrides)


def test_no_configuration_is_left_out():
    files = {f"{f.parent.name}/{f.stem}" for f in Path("conf").glob("*/*.yaml")}
    assert files == {*CONFIGURATIONS, *REPLICATIONS}


def test_a_recipe_s_page_names_its_configuration_and_makes_a_recipe_of_it():
    for schema, module in MODULES.items():
        assert module.SCHEMA is schema
        assert module.recipe.__annotations__["return"] is Recipe


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_steps_come_in_their_order_and_build_on_those_before_them(name):
    steps, builds = recipe_of(configuration(name)).steps, CONFIGURATIONS[name][1]
    assert [step.name for step in steps] == list(builds)
    for number, step in enumerate(steps):
        before = {id(each) for each in steps[:number]}
        assert {each.name for each in step.earlier()} == builds[step.name]
        assert {id(each) for each in step.earlier()} <= before


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_step_finds_the_prompts_that_it_has_to_do_with(name):
    for step in recipe_of(configuration(name)).steps:
        source = step.source()
        assert source is not None and source.prompts.path != ""
        if step.name in ("select", "rsft") and "stage1" in name:
            assert source.name == "grow_rsft"
        if step.name in ("pair", "dpo") and "stage2" in name:
            assert source.name == "sample"


@pytest.mark.parametrize(
    ("name", "overrides", "made"),
    [
        ("miniature/stage1", [], {"rsft": "policy", "dpo": "policy"}),
        ("miniature/stage2", [], {"rsft": "stage1", "dpo": "stage1"}),
        ("miniature/stage2", ["start=policy"], {"rsft": "policy", "dpo": "policy"}),
        ("miniature/baseline_dpo", [], {"dpo": "policy"}),
        ("miniature/evaluate", [], {}),
        ("miniature/table", [], {}),
    ],
)
def test_models_that_a_run_will_leave_are_told_with_those_they_start_from(name, overrides, made):
    models = {"policy": "avr/miniature/models/policy", "stage1": "runs/miniature/dpo"}
    left = recipe_of(configuration(name, *overrides)).made("runs/mine/")
    assert left == {f"runs/mine/{step}": models[model] for step, model in made.items()}


@pytest.mark.parametrize(
    ("name", "override"),
    [
        *((name, "dpo.simpo_margin=0.5") for name in ("miniature/stage1", "miniature/stage2")),
        *((name, "simpo_margin=0.5") for name in ("miniature/stage1", "miniature/stage2")),
        ("miniature/stage1", "trajectories.template=plain"),
        ("miniature/stage2", "outputs.judgements=3"),
        ("miniature/baseline_dpo", "tree.max_tries=3"),
        ("miniature/baseline_dpo", "trajectories.template=plain"),
        ("miniature/refine", "trajectories.template=plain"),
    ],
)
def test_a_setting_that_another_job_has_now_is_refused_with_what_to_do_instead(name, override):
    with pytest.raises(ConfigError) as caught:
        configuration(name, override)
    setting = override.partition("=")[0].removesuffix(".template").removesuffix(".max_tries")
    words = f"override '{override}': unknown key '{setting}'; {MOVED[setting.split('.')[-1]]}"
    assert str(caught.value) == words


def test_a_margin_in_the_place_of_older_baselines_is_refused_with_its_place_of_now():
    with pytest.raises(ConfigError, match=r"'dpo\.simpo_margin'; did you mean 'simpo_margin'"):
        configuration("miniature/baseline_simpo", "dpo.simpo_margin=0.5")


def test_the_seed_of_an_older_evaluation_is_refused_with_its_place_of_now():
    with pytest.raises(ConfigError, match=r"'evaluation\.seed'; it is 'seed_model', at the top"):
        configuration("miniature/stage2", "evaluation.seed=my-model")
