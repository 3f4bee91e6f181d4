"""The baselines as values: traditional DPO, SimPO, an iteration of Meta-Rewarding."""

import pytest
from configured import checked, steps_of

from avr.config.answers import Mode
from avr.config.errors import ConfigError
from avr.config.load import load
from avr.core.trajectory import PLAIN
from avr.recipes.baseline import BaselineConfig
from avr.rewards.reward import only_classifier
from avr.rows.rules import switched_on
from avr.training.methods.dpo import Dpo
from avr.training.methods.simpo import Simpo

POLICY, OTHER = "avr/miniature/models/policy", "avr/miniature/models/corrector"


def baseline(name, *overrides):
    return load(BaselineConfig, f"conf/miniature/{name}.yaml", overrides)


def wrong(make, config):
    with pytest.raises(ConfigError) as caught:
        make(config)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "overrides", "method"),
    [
        ("baseline_dpo", [], Dpo()),
        ("baseline_simpo", [], Simpo(margin=0.5)),
        ("baseline_simpo", ["simpo_margin=1.5"], Simpo(margin=1.5)),
        ("baseline_simpo", ["simpo_margin=0"], Simpo(margin=0.0)),  # 0 is a margin, too
        ("baseline_dpo", ["simpo_margin=null"], Dpo()),
        ("meta_rewarding", [], Dpo()),
    ],
)
def test_the_margin_makes_simpo_of_dpo_and_nothing_else_does(name, overrides, method):
    steps = steps_of(baseline(name, *overrides))
    assert steps["dpo"].method == method
    assert steps["dpo"].base == POLICY  # there is no training before it


def test_whole_answers_are_sampled_and_a_policy_that_judges_has_no_reward_model():
    judged, own = (baseline(name) for name in ("baseline_dpo", "meta_rewarding"))
    for config, judge in ((judged, only_classifier(judged.reward_model)), (own, None)):
        sample = steps_of(config)["sample"]
        assert (sample.template, sample.weights, sample.apart_from) == (PLAIN, None, ())
        assert sample.reward == judge
        pools = [pool.name for pool in sample.needs().pools]
        assert pools == ["policy"] + ["reward_model"] * (judge is not None)


def test_an_evaluation_asks_the_reward_model_whoever_has_judged_in_training():
    words = ["evaluation={prompts: {path: avr/miniature/data/heldout.jsonl, limit: 8}}"]
    config = baseline("meta_rewarding", *words)
    steps = steps_of(config)
    assert steps["sample"].reward is None
    assert steps["evaluate"].reward == only_classifier(config.reward_model)


@pytest.mark.parametrize(("seed", "at"), [(None, "policy.model"), (OTHER, "seed_model")])
def test_the_trained_model_is_compared_with_the_seed_or_the_policy_itself(seed, at):
    words = [f"seed_model={seed or 'null'}", "evaluation.rounds.seed=2"]
    steps = steps_of(baseline("baseline_dpo", *words))
    first, trained = steps["evaluate"].entrants
    assert (first.name, first.model, first.at) == ("seed", seed or POLICY, at)
    assert (first.mode, first.rounds) == (Mode.refine, 2)
    assert (trained.name, trained.mode, trained.rounds) == ("baseline dpo", Mode.recursive, 0)
    # As on one output of Stage II's models: whole, with one try, and a failure counts.
    assert (trained.max_tries, steps["evaluate"].template) == (1, PLAIN)
    assert trained.model is steps["dpo"]


def test_traditional_dpo_is_a_recipe_without_the_loop():
    config = baseline("baseline_dpo")
    plans = {step.step: step for step in checked(config)}
    assert list(plans) == ["sample", "dpo", "evaluate"]
    assert [pool.samples for pool in plans["evaluate"].pools] == [1 + 1, 1 + 1]
    assert plans["dpo"].pools[0].model == config.policy.model
    assert [name for name, plan in plans.items() if plan.whole] == ["evaluate"]
    assert not any(plan.pools[0].trained for plan in plans.values())
    switches = switched_on("outputs", config.pairs.profile, config.pairs.switches)
    assert "answer_no_longer" not in switches
    checked(baseline("baseline_simpo"))
    checked(baseline("meta_rewarding"))


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("baseline_dpo", "simpo_margin=0.5", "SimPO is DPO with dpo.trl.loss_type=sigmoid_norm"),
        ("baseline_dpo", "simpo_margin=-1", "simpo_margin is -1.0, must be at least 0"),
        ("baseline_dpo", "evaluation.rounds.dpo=1", "rounds.dpo: no such model; there are: seed"),
        ("baseline_dpo", "seed_model=./none", "seed_model: no model folder at ./none"),
        ("baseline_dpo", "pairs.per_prompt=3", "pairs.per_prompt is 3, which takes 6 outputs"),
        (
            "baseline_dpo",
            "steps=[rsft]",
            "unknown step 'rsft'; there are: sample, pair, dpo, eval",
        ),
        (
            "meta_rewarding",
            "prompts.sample.answer_field=prompt",
            "outputs.judgements: it does not go with",
        ),
        ("meta_rewarding", "outputs.meta_request=' '", "outputs.meta_request is empty"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_starts(name, override, words):
    assert words in wrong(checked, baseline(name, override))
