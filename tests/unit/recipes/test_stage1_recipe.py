"""Stage I as a value: two growths, two trainings, and an evaluation of what they leave."""

import pytest
from configured import needs, steps_of

from avr.config.answers import Mode
from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.roles import FirstAnswer
from avr.recipes.stage1 import Stage1Config, second_policy
from avr.rewards.reward import only_classifier
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft

POLICY = "avr/miniature/models/policy"


def stage1(*overrides, recipe="miniature"):
    return load(Stage1Config, f"conf/{recipe}/stage1.yaml", overrides)


def test_the_first_growth_is_corrected_and_the_second_corrects_itself_apart_from_it():
    config = stage1()
    steps = steps_of(config)
    first, second = steps["grow_rsft"], steps["grow_dpo"]
    assert (first.corrector, first.weights, first.apart_from) == (config.corrector, None, ())
    assert second.corrector is None and second.weights is steps["rsft"]
    assert second.apart_from[0] is first and len(second.apart_from) == 1
    assert (first.prompts, second.prompts) == (config.prompts.rsft, config.prompts.dpo)
    for each in (first, second):
        assert (each.policy.model, each.reward) == (POLICY, only_classifier(config.reward_model))


def test_first_answers_of_the_input_are_for_the_first_growth_alone():
    words = ["growth.first_answer=input", "prompts.rsft.answer_field=chosen"]
    steps = steps_of(stage1(*words))
    taken = [steps[name].growth.first_answer for name in ("grow_rsft", "grow_dpo")]
    assert taken == [FirstAnswer.input, FirstAnswer.sampled]
    # A policy beside a corrector gives no text then, and plays no part.
    assert [pool.name for pool in steps["grow_rsft"].needs().pools] == ["corrector", "reward_model"]
    assert [pool.name for pool in steps["grow_dpo"].needs().pools] == ["policy", "reward_model"]


def test_dpo_goes_on_from_the_model_of_rsft():
    config = stage1()
    steps = steps_of(config)
    rsft, dpo = steps["rsft"], steps["dpo"]
    assert (rsft.base, rsft.method, rsft.config) == (POLICY, Rsft(), config.rsft)
    assert dpo.base is rsft and (dpo.method, dpo.config) == (Dpo(), config.dpo)
    assert dpo.origin() == POLICY


def test_the_second_growth_is_of_the_model_that_is_trained_in_between():
    trained = {plan.step: plan.pools[0].trained for plan in needs(stage1())}
    assert trained["grow_dpo"] and trained["dpo"]
    assert not (trained["grow_rsft"] or trained["rsft"])


def test_gpus_of_the_corrector_go_to_the_policy_in_the_second_growth():
    assert second_policy(stage1(recipe="llama3_8b")).max_replicas == 2 + 2 * 2
    assert steps_of(stage1(recipe="llama3_8b"))["grow_dpo"].policy.max_replicas == 6
    assert second_policy(stage1("policy.gpu_share=0.25", recipe="llama3_8b")).max_replicas == 18
    waves = stage1("growth.placement=waves", recipe="llama3_8b")
    for same in (stage1(), stage1("corrector=null", recipe="llama3_8b"), waves):  # none are freed
        assert second_policy(same) is same.policy


def test_every_model_refines_its_own_answers_as_often_as_it_is_told_to():
    config = stage1("evaluation.rounds.dpo=3")
    steps = steps_of(config)
    evaluate = steps["evaluate"]
    assert [(each.name, each.rounds) for each in evaluate.entrants] == [
        ("seed", 1),
        ("rsft", 1),
        ("dpo", 3),
    ]
    seed, rsft, dpo = (each.model for each in evaluate.entrants)
    assert seed == POLICY and rsft is steps["rsft"] and dpo is steps["dpo"]
    assert {each.mode for each in evaluate.entrants} == {Mode.refine}
    assert (evaluate.tree.num_critiques, evaluate.tree.num_refinements) == (1, 1)
    assert (evaluate.prompts, evaluate.oracle) == (
        config.evaluation.prompts,
        config.evaluation.oracle,
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("evaluation.rounds.stage1=1", "rounds.stage1: no such model; there are: seed, rsft, dpo"),
        ("evaluation.rounds.dpo=-1", "evaluation.rounds.dpo is -1, must be at least 0"),
        ("selection.profile=as_was", "selection: unknown profile 'as_was'; there are: "),
        ("pairs.switches.uniqe=true", "pairs: unknown rule 'uniqe'; did you mean 'unique'?"),
    ],
)
def test_rounds_and_rules_that_there_are_not_are_refused_when_the_recipe_is_made(override, words):
    with pytest.raises(ConfigError) as caught:
        steps_of(stage1(override))
    assert words in str(caught.value)


def test_an_evaluation_is_left_out_where_there_is_none():
    assert "evaluate" not in steps_of(stage1("evaluation=null"))
