"""Rewards of other kinds than a reward model, in the steps of each recipe."""

from dataclasses import fields

import pytest
from configured import checked, needs, steps_of, uses_of

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.roles import CorrectingConfig, Sees
from avr.config.rows import TreeConfig
from avr.core.growth import Shape
from avr.core.reward import RUBRIC
from avr.recipes.baseline import BaselineConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config
from avr.rewards.reward import only_classifier, reward_of
from avr.steps.ask import check_truth, shape_of

MODEL = "{model: avr/miniature/models/reward, use_gpu: false, engine: {max_model_len: 512}}"
REFERENCE = ["prompts.rsft.reference_field=a", "prompts.dpo.reference_field=a"]
MATHS = ["reward_model=null", "reward.kind=maths", *REFERENCE]
ENSEMBLE = [
    "reward_model=null",
    "reward.kind=ensemble",
    f"reward.members={{one: {{reward_model: {MODEL}}}, right: {{kind: maths, replicas: 3}}}}",
    *REFERENCE,
]


def stage1(*overrides):
    return load(Stage1Config, "conf/miniature/stage1.yaml", ["evaluation=null", *overrides])


def stage2(*overrides):
    own = ["stage1_dir=null", "policy.model=avr/miniature/models/policy", "evaluation=null"]
    return load(Stage2Config, "conf/miniature/stage2.yaml", [*own, *overrides])


def pools_of(config):
    return {plan.step: [(pool.name, pool.samples) for pool in plan.pools] for plan in needs(config)}


def test_a_growth_gives_a_verifier_a_pool_and_every_judge_of_an_ensemble_one():
    pools = pools_of(stage1(*MATHS))
    assert pools["grow_rsft"][-1] == ("verifier maths", 1 + 4)
    assert [name for name, _ in pools["grow_dpo"]] == ["policy", "verifier maths"]
    several = pools_of(stage1(*ENSEMBLE))["grow_rsft"]
    assert several[-2:] == [("reward.members.one.reward_model", 5), ("verifier right", 5)]


def test_a_verifier_needs_cpus_and_no_gpu_and_has_the_replicas_that_it_was_given():
    *_, pool = needs(stage1(*ENSEMBLE))[0].pools
    assert (pool.name, pool.min_replicas, pool.max_replicas) == ("verifier right", 3, 3)
    assert (pool.cpus, pool.gpus) == (0.25, 0)


def test_searches_and_samples_ask_verifiers_where_they_are():
    words = ["prompts.search.reference_field=a", "prompts.sample.reference_field=a"]
    pools = pools_of(stage2("reward_model=null", "reward.kind=maths", *words))
    assert [name for name, _ in pools["search"]] == [name for name, _ in pools["sample"]]
    assert [name for name, _ in pools["search"]] == ["policy"]


def test_models_of_an_ensemble_are_looked_at_before_anything_starts_and_verifiers_have_none():
    used = {use.name for use in uses_of(stage1(*ENSEMBLE))}
    assert "reward.members.one.reward_model.model" in used
    assert not any("verifier" in name or name == "reward_model.model" for name in used)


def test_the_same_reward_judges_in_every_step_of_a_recipe():
    for config, names in [
        (stage1(*MATHS), ("grow_rsft", "grow_dpo")),
        (stage1(*ENSEMBLE), ("grow_rsft", "grow_dpo")),
        (stage2(), ("search", "sample")),
        (load(BaselineConfig, "conf/maths/baseline_dpo.yaml"), ("sample",)),
    ]:
        steps = steps_of(config)
        expected = reward_of(config.reward, config.reward_model)
        assert [steps[name].reward for name in names] == [expected] * len(names)


@pytest.mark.parametrize(
    ("config", "name", "words"),
    [
        (
            stage1("reward_model=null", "reward.kind=maths"),
            "grow_rsft",
            "prompts.rsft.reference_field is not set: the reward 'maths' needs that field of each",
        ),
        (
            stage1(*MATHS[:3]),
            "grow_dpo",
            "prompts.dpo.reference_field is not set: the reward 'maths' needs that field of each",
        ),
        (
            stage2("reward_model=null", "reward.kind=maths"),
            "search",
            "prompts.search.reference_field is not set: the reward 'maths' needs that field",
        ),
        (
            stage2("correcting.corrector_sees=reference"),
            "search",
            "corrector_sees is reference, but prompts.search.reference_field is not set",
        ),
        (
            stage2("correcting.criticised_share=0.5"),
            "search",
            "criticised_share is below 1, but nothing knows whether an answer is right",
        ),
        (
            stage2("correcting.corrector_sees=feedback"),
            "search",
            "corrector_sees is feedback, but nothing knows whether an answer is right",
        ),
    ],
)
def test_a_step_that_lacks_what_its_reward_or_corrector_needs_says_which_setting(
    config, name, words
):
    with pytest.raises(ConfigError) as caught:
        steps_of(config)[name].check()
    assert str(caught.value).startswith(words)


def test_what_a_corrector_sees_is_for_growing_alone():
    """Nothing of it is among the settings that an evaluation takes its shape from."""
    correcting = {"sees", "truth", "criticised_share"}
    assert not correcting & {field.name for field in fields(TreeConfig)}
    assert correcting <= {field.name for field in fields(Shape)}


def test_the_shape_of_a_growth_says_what_is_seen_and_who_knows():
    reward = reward_of(stage1(*ENSEMBLE).reward, None)
    config = CorrectingConfig(Sees.feedback, 0.25)
    shape = shape_of(TreeConfig(3, 1, 4, "history"), config, reward)
    assert shape == Shape(3, 1, 4, "best", "history", "feedback", "right", 0.25)
    model = only_classifier(stage1().reward_model)
    assert shape_of(TreeConfig(), CorrectingConfig(), model) == Shape()


def test_a_reference_is_seen_without_anything_that_knows_what_is_right():
    """It may be a solution that a reward model judges answers against in its own way."""
    prompts = stage1(*REFERENCE).prompts.rsft
    model = only_classifier(stage1().reward_model)
    check_truth(CorrectingConfig(Sees.reference), model, prompts, "prompts.rsft")


JUDGED = [
    "reward_model=null",
    "reward.kind=judge",
    "reward.judge.endpoint.base_url=http://127.0.0.1:1/v1",
    "reward.judge.endpoint.model=m",
    "steps=[grow_rsft]",
]


def test_a_judge_on_a_server_is_configured_by_its_settings_and_has_a_pool_of_callers_in_a_growth():
    config = stage1(*JUDGED, "reward.at_a_time=16")
    assert config.reward.judge.endpoint.model == "m"
    assert config.reward.judge.rubric == RUBRIC
    assert pools_of(config)["grow_rsft"][-1] == ("verifier judge", 1 + 4)
    checked(config)
    with pytest.raises(ConfigError, match=r"rsft\.reference_field is not set: the reward 'judge'"):
        checked(stage1(*JUDGED, "reward.judge.rubric='{prompt} {answer} {reference}'"))
    with pytest.raises(ConfigError, match=r"reward\.judge\.endpoint\.model is not set"):
        checked(stage1(*JUDGED, "reward.judge.endpoint.model=null"))


MEMBER = "{kind: judge, judge: {endpoint: {base_url: 'http://127.0.0.1:1/v1', model: m, %s}, %s}}"


@pytest.mark.parametrize(
    ("server", "own", "words"),
    [
        ("timeout_s: 0", "best: 5", "endpoint.timeout_s is 0.0, must be at least 1"),
        ("timeout_s: 9", "max_tries: 0", "max_tries is 0, must be at least 1"),
        (
            "request: {extra_headers: {X-Key: planted}}",
            "best: 5",
            "endpoint.request.extra_headers.X-Key cannot be set: put secrets in environment"
            " variables: settings are written to files; reward.members.mine.judge.endpoint"
            ".api_key_variable names the variable that holds a key",
        ),
    ],
)
def test_settings_of_an_ensemble_s_members_are_looked_at_like_all_others(server, own, words):
    members = f"reward.members={{mine: {MEMBER % (server, own)}}}"
    with pytest.raises(ConfigError) as caught:
        checked(stage1("reward_model=null", "reward.kind=ensemble", members))
    assert str(caught.value) == f"reward.members.mine.judge.{words}"
