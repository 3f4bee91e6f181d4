"""What a configuration of the reward becomes, and what it is told where it cannot be one."""

import asyncio

import pytest
from scripted import ScriptedScore

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.rewards import Combine, JudgingConfig, RewardConfig, RewardKind
from avr.config.roles import RoleConfig
from avr.config.sandbox import SandboxConfig
from avr.core.messages import user
from avr.core.reward import Combination
from avr.core.tree import Prompt
from avr.rewards.function import Function
from avr.rewards.maths import Maths
from avr.rewards.reward import Classifier, only_classifier, reward_of

MODEL, OTHER = RoleConfig(model="model"), RoleConfig(model="other")
MATHS = JudgingConfig(RewardKind.maths, replicas=2, num_cpus=0.5, at_a_time=3)
MINE = JudgingConfig(RewardKind.function, function="builtins:len")
BY_MODEL = JudgingConfig(reward_model=MODEL)
WITHOUT_MODEL = JudgingConfig()


def ensemble(**members):
    return RewardConfig(RewardKind.ensemble, members=members)


def test_by_default_the_reward_is_the_jobs_reward_model():
    reward = reward_of(RewardConfig(), MODEL)
    assert reward == only_classifier(MODEL)
    assert reward.judges == (Classifier("classifier", "reward_model", MODEL),)
    assert reward.combination == Combination(("classifier",))
    assert reward.pools == {"reward_model": MODEL}
    assert reward.truth is None and reward.verifiers == ()


def test_a_verifier_needs_no_model_and_has_no_engines():
    reward = reward_of(RewardConfig(RewardKind.maths), None)
    assert reward.judges == reward.verifiers == (Maths("maths"),)
    assert reward.truth is reward.judges[0]
    assert reward.combination == Combination(("maths",))
    assert reward.pools == {}
    own = reward_of(RewardConfig(RewardKind.function, function="builtins:len"), None)
    assert own.judges == (Function(name="function", function="builtins:len"),)
    assert own.truth is None  # a function may give anything


def test_an_ensemble_has_its_members_in_their_order_each_model_with_a_pool_of_its_own():
    config = ensemble(good=BY_MODEL, right=MATHS, better=JudgingConfig(reward_model=OTHER))
    config.combine, config.deviations = Combine.mean_minus_deviations, 0.5
    reward = reward_of(config, None)
    members = ("good", "right", "better")
    assert tuple(judge.name for judge in reward.judges) == members
    assert reward.combination == Combination(members, "mean_minus_deviations", 0.5)
    assert reward.pools == {
        "reward.members.good.reward_model": MODEL,
        "reward.members.better.reward_model": OTHER,
    }
    assert reward.verifiers == (reward.truth,) == (Maths("right", 2, 0.5, 3),)


def test_the_truth_is_the_first_judge_that_knows_it():
    reward = reward_of(ensemble(mine=MINE, one=MATHS, two=MATHS), None)
    assert [v.name for v in reward.verifiers] == ["mine", "one", "two"]
    assert reward.truth.name == "one"
    assert reward_of(ensemble(mine=MINE, model=BY_MODEL), None).truth is None


def test_trees_are_judged_under_the_plain_mean_so_that_rows_may_combine_verdicts_anew():
    config = ensemble(one=MINE, right=MATHS)
    config.combine = Combine.minimum
    reward = reward_of(config, None)
    assert reward.combination.how == "minimum"
    for_trees = reward.for_trees()
    assert for_trees.combination == Combination(("one", "right"))
    assert (for_trees.judges, for_trees.truth_name) == (reward.judges, "right")
    config.combine = Combine.mean_minus_deviations
    assert reward_of(config, None).for_trees() == for_trees
    assert only_classifier(MODEL).for_trees() == only_classifier(MODEL)
    assert only_classifier(MODEL).truth_name == ""


@pytest.mark.parametrize("how", Combine)
def test_every_way_to_combine_is_one_that_the_algorithm_has(how):
    config = ensemble(one=MINE, two=MINE)
    config.combine = how
    assert reward_of(config, None).combination.of({"one": 2.0, "two": 2.0}) == 2.0


@pytest.mark.parametrize(
    ("config", "reward_model", "words"),
    [
        (RewardConfig(), None, "reward_model is not set: which model rewards answers?"),
        (
            RewardConfig(members={"a": MATHS}),
            MODEL,
            "reward.members is set, but reward.kind is classifier, not ensemble",
        ),
        (
            RewardConfig(RewardKind.maths, members={"a": MATHS}),
            None,
            "reward.members is set, but reward.kind is maths, not ensemble",
        ),
        (
            RewardConfig(reward_model=MODEL),
            None,
            "reward.reward_model: it is 'reward_model', at the top",
        ),
        (
            RewardConfig(RewardKind.maths),
            MODEL,
            "reward_model is set, but reward.kind is maths; leave one out",
        ),
        (
            RewardConfig(RewardKind.function, function="builtins:len"),
            MODEL,
            "reward_model is set, but reward.kind is function; leave one out",
        ),
        (
            RewardConfig(RewardKind.function),
            None,
            "reward.function is not set; it must be MODULE:FUNCTION",
        ),
        (
            RewardConfig(RewardKind.ensemble),
            None,
            "reward.members is empty: which judges are the ensemble?",
        ),
        (
            ensemble(a=MATHS),
            MODEL,
            "reward_model is set, but reward.kind is ensemble; move it to"
            " reward.members.NAME.reward_model",
        ),
        (
            ensemble(a=MATHS, b=WITHOUT_MODEL),
            None,
            "reward.members.b.reward_model is not set: which model rewards answers?",
        ),
        (
            ensemble(a=JudgingConfig(RewardKind.ensemble)),
            None,
            "reward.members.a.kind is ensemble: an ensemble holds no other one",
        ),
        (
            ensemble(a=MATHS, b=JudgingConfig(RewardKind.function)),
            None,
            "reward.members.b.function is not set; it must be MODULE:FUNCTION",
        ),
    ],
)
def test_a_reward_that_cannot_be_names_the_setting(config, reward_model, words):
    with pytest.raises(ConfigError) as caught:
        reward_of(config, reward_model)
    assert str(caught.value) == words


SET = {
    "function": ({"function": "builtins:len"}, "function"),
    "sandbox": ({"sandbox": SandboxConfig(wall_s=3.0)}, "code"),
    "combine": ({"combine": Combine.minimum}, "ensemble"),
    "deviations": ({"deviations": 0.5}, "ensemble"),
}


IGNORED = [(each, kind) for each in SET for kind in RewardKind if kind.value != SET[each][1]]


@pytest.mark.parametrize(("setting", "kind"), IGNORED)
def test_a_setting_that_a_kind_would_ignore_is_refused_by_name(setting, kind):
    changes, used_by = SET[setting]
    more = {"members": {"a": MATHS}} if kind == RewardKind.ensemble else {}
    config = RewardConfig(kind, **more, **changes)
    with pytest.raises(ConfigError) as caught:
        reward_of(config, MODEL if kind == RewardKind.classifier else None)
    said = f"reward.{setting} is set, but reward.kind is {kind.value}, not {used_by}"
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ({"reward_model": MODEL, "kind": RewardKind.maths}, "reward_model {}maths, not classifier"),
        ({"function": "builtins:len"}, "function {}classifier, not function"),
        ({"function": "f:g", "kind": RewardKind.code}, "function {}code, not function"),
    ],
)
def test_so_is_one_of_a_member(member, words):
    with pytest.raises(ConfigError) as caught:
        reward_of(ensemble(a=JudgingConfig(**member)), None)
    words = words.format("is set, but reward.members.a.kind is ")
    assert str(caught.value) == f"reward.members.a.{words}"


def test_deviations_that_nothing_takes_off_are_refused():
    config = ensemble(a=MATHS)
    config.deviations, config.combine = 0.5, Combine.minimum
    with pytest.raises(ConfigError) as caught:
        reward_of(config, None)
    said = "reward.deviations is set, but reward.combine is minimum, not mean_minus_deviations"
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", "my judge", "my-judge", "1st", "f\u00fcr", "a\n"]
)
def test_a_member_whose_name_is_not_fit_for_a_folder_is_refused(name):
    with pytest.raises(ConfigError) as caught:
        reward_of(ensemble(fine=MATHS, **{name: MATHS}), None)
    assert str(caught.value) == (
        f"reward.members: the name {name!r} must have letters, digits and _ alone, and no digit"
        " first"
    )


def test_all_verifiers_of_an_ensemble_are_checked_against_the_rows():
    reward = reward_of(ensemble(model=BY_MODEL, mine=MINE, right=MATHS), None)
    reward.check(PromptsConfig(reference_field="answer"), "prompts.search")
    with pytest.raises(ConfigError, match=r"prompts\.search\.reference_field is not set: "):
        reward.check(PromptsConfig(), "prompts.search")
    wrong = JudgingConfig(RewardKind.function, function="nowhere:f")
    with pytest.raises(ConfigError, match="reward function 'nowhere:f' is no module:function"):
        reward_of(ensemble(a=wrong), None).check(PromptsConfig(), "prompts.search")


def test_models_judge_by_their_pools_and_verifiers_by_themselves():
    reward = reward_of(ensemble(good=BY_MODEL, right=MATHS), None)
    asked = []

    def score(name, pool):
        asked.append((name, pool))
        return ScriptedScore(lambda text: -3.0, name)

    rewarding = reward.rewarding(score)
    assert asked == [("good", "reward.members.good.reward_model")]
    assert rewarding.judges[1] is reward.truth
    prompt = Prompt.of((user("question"),), reference="#### 18")
    found, verdicts = asyncio.run(rewarding.reward(prompt, "#### 18"))
    assert [(v.by, v.reward) for v in verdicts] == [("good", -3.0), ("right", 1.0)]
    assert found == -1.0
