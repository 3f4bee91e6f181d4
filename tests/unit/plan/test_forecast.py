"""What a run will take, from what a small one took."""

import json
from dataclasses import replace

import pytest
from configured import needs

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.plan.forecast import GIB, Means, RoleForecast, by_role, forecast, mean_tokens, other_models
from avr.plan.resources import Pool, StepPlan
from avr.recipes.stage2 import Stage2Config


@pytest.fixture
def probe(tmp_path):
    summary = {
        "grow_rsft": {"input": {"num_prompts": 50}, "trees": {"tokens": 10_000}},
        "rsft": {"num_trained": 8},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "device_hours.json").write_text(json.dumps({"grow_rsft": 0.5}))
    (tmp_path / "rsft.training").mkdir()
    (tmp_path / "rsft").mkdir()
    (tmp_path / "rsft" / "model.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "rsft.training" / "log").write_bytes(b"x" * 24)
    return tmp_path


def test_everything_grows_with_the_prompts_of_the_step_that_reads_them(probe):
    steps = {"grow_rsft": ("grow_rsft", 5000), "rsft": ("grow_rsft", 5000)}
    grow, rsft = forecast(steps, probe)
    assert (grow.tokens, grow.device_hours, grow.gib) == (1_000_000, 50.0, 0.0)
    assert (rsft.tokens, rsft.device_hours) == (None, None)
    assert rsft.gib == pytest.approx(1000 / GIB)  # a model does not grow with its rows


def test_steps_that_the_small_run_did_not_do_are_unknown(probe):
    steps = {"grow_dpo": ("grow_dpo", 10), "dpo": ("grow_dpo", 10)}
    assert all(
        (row.prompts, row.tokens, row.device_hours, row.gib) == (10, None, None, None)
        for row in forecast(steps, probe)
    )


def test_a_small_run_of_the_other_stage_says_nothing(probe):
    summary = json.loads((probe / "summary.json").read_text())
    summary["evaluate"] = {"input": {"num_prompts": 10}}
    (probe / "summary.json").write_text(json.dumps(summary))
    steps = {"search": ("search", 10), "evaluate": ("evaluate", 10)}
    assert {(row.tokens, row.device_hours, row.gib) for row in forecast(steps, probe)} == {
        (None, None, None)
    }
    (alone,) = forecast({"evaluate": ("evaluate", 10)}, probe)
    assert alone.gib == 0.0


def test_other_models_of_the_small_run_are_named(probe):
    pools = (Pool("policy", "large", 1, 1, 1.0, 0.0), Pool("reward_model", "same", 1, 1, 1.0, 0.0))
    plan = [StepPlan("grow_rsft", pools, True)]
    assert other_models(plan, probe) == []
    roles = {"policy": {"model": "small"}, "reward_model": {"model": "same"}, "corrector": None}
    (probe / "config.yaml").write_text(json.dumps(roles))
    assert other_models(plan, probe) == ["policy small in the place of large"]
    second = StepPlan("grow_dpo", (Pool("policy", "large", 1, 1, 1.0, 0.0, trained=True),), True)
    assert other_models([second], probe) == ["policy small in the place of large"]


def test_a_directory_without_a_finished_run_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"--probe: .* holds no finished run"):
        list(forecast({}, tmp_path))


PLAN = [
    StepPlan(
        "grow_rsft",
        (
            Pool("policy", "m", 1, 2, 1.0, 1.0, samples=1),
            Pool("corrector", "m", 1, 2, 1.0, 2.0, samples=6),
            Pool("reward_model", "m", 1, 1, 1.0, 1.0, samples=5),
        ),
        True,
    ),
    StepPlan("rsft", (Pool("training worker", "m", 8, 8, 1.0, 1.0),), True),
    StepPlan("evaluate", (Pool("policy", "m", 1, 1, 1.0, 0.0, samples=15),), True),
]


def test_calls_come_from_the_shape_of_trees_and_the_prompts():
    rows = by_role(PLAN, {"grow_rsft": 100, "rsft": 100, "evaluate": 10}, Means())
    assert [(row.step, row.role, row.texts) for row in rows] == [
        ("grow_rsft", "policy", 100),
        ("grow_rsft", "corrector", 600),
        ("grow_rsft", "reward_model", 500),
        ("evaluate", "policy", 150),
    ]


def test_given_means_turn_calls_into_tokens_and_device_hours():
    means = Means(tokens=300.0, tokens_per_second=50.0)
    policy, corrector, reward = by_role(PLAN, {"grow_rsft": 100}, means)
    busy = 30_000 / 50 / 3600
    # Two correctors of two GPUs each take longest; two policies and a reward model wait for them.
    held = 6 * busy / 2 * (2 * 1 + 2 * 2 + 1)
    assert policy == RoleForecast("grow_rsft", "policy", 100, 30_000.0, busy, pytest.approx(held))
    assert corrector.busy == pytest.approx(2 * 6 * busy)
    assert (reward.tokens, reward.busy) == (None, None)
    waves = replace(PLAN[0], together=False)
    assert [row.held for row in by_role([waves], {"grow_rsft": 100}, means)] == [
        policy.busy,
        corrector.busy,
        None,
    ]


def test_a_tree_s_texts_say_nothing_of_whole_outputs():
    plan, prompts = [replace(PLAN[0], whole=True)], {"grow_rsft": 100}
    measured = Means(tokens=300.0, tokens_per_second=50.0, of_trees=True)
    assert {(row.tokens, row.busy, row.held) for row in by_role(plan, prompts, measured)} == {
        (None, None, None)
    }
    policy, *_ = by_role(plan, prompts, replace(measured, of_trees=False))
    assert policy.tokens == 30_000.0


def test_a_small_run_says_how_long_texts_are(tmp_path):
    trees = {"trees": 10, "critiques": 20, "refinements": 40, "tokens": 7000}
    summary = {"run_dir": "x", "seconds": {}, "grow_rsft": {"trees": trees}, "rsft": {"trees": 3}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert mean_tokens(tmp_path) == 100.0
    (tmp_path / "summary.json").write_text("{}")
    assert mean_tokens(tmp_path) is None


SEED, SEARCHER = "avr/miniature/models/policy", "avr/miniature/models/corrector"


def stage2_plan(*overrides):
    words = ["stage1_dir=null", f"policy.model={SEARCHER}", "start=policy", *overrides]
    return needs(load(Stage2Config, "conf/miniature/stage2.yaml", words))


def test_model_that_rsft_makes_is_no_other_model_of_a_small_run(tmp_path):
    (tmp_path / "config.yaml").write_text(f"policy: {{model: {SEARCHER}}}\n")
    plan = stage2_plan("steps=[search,unroll,rsft,sample,pair,dpo]")
    assert other_models(plan, tmp_path) == []
    (tmp_path / "config.yaml").write_text("policy: {model: another}\n")
    assert other_models(plan, tmp_path) == [f"policy another in the place of {SEARCHER}"]
    plan = stage2_plan("steps=[sample,pair,dpo]")
    (tmp_path / "config.yaml").write_text(f"policy: {{model: {SEARCHER}}}\nseed_model: {SEED}\n")
    assert other_models(plan, tmp_path) == []
    (tmp_path / "config.yaml").write_text(f"policy: {{model: {SEARCHER}}}\nseed_model: another\n")
    assert other_models(plan, tmp_path) == [f"policy {SEARCHER} in the place of {SEED}"]
