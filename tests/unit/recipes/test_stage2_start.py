"""From which model Stage II trains."""

import pytest
from configured import checked, decided, steps_of

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.engines.weights import weights_id
from avr.recipes.stage2 import Stage2Config

SEED, SEARCHER = "avr/miniature/models/policy", "avr/miniature/models/corrector"
HERE = ["stage1_dir=null", f"policy.model={SEARCHER}"]


def stage2(*overrides):
    return load(Stage2Config, "conf/miniature/stage2.yaml", [*HERE, *overrides])


def wrong(config):
    with pytest.raises(ConfigError) as caught:
        checked(config)
    return str(caught.value)


@pytest.mark.parametrize(("start", "model"), [("policy", SEED), ("stage1", SEARCHER)])
def test_what_is_trained_on_trajectories_is_what_start_says(start, model):
    config = stage2(f"start={start}")
    assert decided(config, "rsft")["base"] == weights_id(model)
    plans = {plan.step: plan for plan in checked(config)}
    for step in ("rsft", "sample", "dpo"):
        assert plans[step].pools[0].model == model
    assert [plans[step].pools[0].trained for step in ("rsft", "sample", "dpo")] == [
        False,
        True,
        True,
    ]
    for step in ("search", "evaluate"):  # whatever is trained, it searches with Stage I's model
        assert plans[step].pools[0].model == SEARCHER


def test_stage_1s_model_is_the_default_and_needs_no_seed():
    assert weights_id(SEED) != weights_id(SEARCHER)
    for more in (["evaluation=null"], ["steps=[search,unroll,rsft,sample,pair,dpo]"]):
        config = stage2("seed_model=null", *more)
        assert steps_of(config)["rsft"].base == SEARCHER
        assert checked(config)


def test_seed_model_that_is_asked_for_and_not_given_is_named():
    missing = "start is 'policy', but seed_model is not set: name the untrained model"
    assert wrong(stage2("start=policy", "seed_model=null", "evaluation=null")) == missing
    compared = "seed_model is not set: the evaluation compares all models with it"
    assert wrong(stage2("seed_model=null")) == compared
    nowhere = "seed_model: no model folder at ./none"
    for more in (["start=policy", "evaluation=null"], ["start=stage1"]):
        assert wrong(stage2("seed_model=./none", *more)) == nowhere
    checked(stage2("seed_model=./none", "evaluation=null"))  # which nobody asks for
