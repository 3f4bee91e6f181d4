"""Several judges and one reward: how verdicts combine, and who is asked when."""

import asyncio
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ScriptedScore, critique, response, tree

from avr.core.growth import score
from avr.core.messages import assistant, user
from avr.core.outputs import Output, open_set, score_failures, score_outputs
from avr.core.reward import Combination, Rewarding, RewardModel
from avr.core.roles import TreeFault
from avr.core.tree import Prompt, Verdict

PROMPT = Prompt.of((user("question"),), reference="the truth")
LOGITS = st.floats(-1e6, 1e6)
VALUES = st.lists(LOGITS, min_size=2, max_size=6)
HOWS = ("mean", "minimum", "mean_minus_deviations")


def named(values):
    return {f"judge {n}": value for n, value in enumerate(values)}


def combined(values, how, **more):
    return Combination(tuple(named(values)), how, **more).of(named(values))


@pytest.mark.parametrize(
    ("how", "more", "reward"),
    [
        ("mean", {}, 3.0),
        ("minimum", {}, 1.0),
        ("mean_minus_deviations", {}, 1.0),
        ("mean_minus_deviations", {"deviations": 0.5}, 2.0),
        ("mean_minus_deviations", {"deviations": 0.0}, 3.0),
    ],
)
def test_two_rewards_become_one(how, more, reward):
    assert combined((1.0, 5.0), how, **more) == reward


@given(VALUES)
def test_a_mean_and_a_minimum_lie_among_the_rewards(values):
    slack = 1e-9 * max(map(abs, values))  # a mean of floats may be off by its last digit
    for how in ("mean", "minimum"):
        assert min(values) - slack <= combined(values, how) <= max(values) + slack


@given(st.lists(st.integers(-99, 99).map(float), min_size=2, max_size=4), st.integers(0, 3))
def test_disagreement_costs_and_agreement_does_not(values, deviations):
    found = combined(values, "mean_minus_deviations", deviations=deviations)
    assert found == pytest.approx(fmean(values) - deviations * pstdev(values))
    assert found <= fmean(values)
    alike = [values[0]] * len(values)
    assert combined(alike, "mean_minus_deviations") == pytest.approx(values[0])


@given(LOGITS, st.sampled_from(HOWS))
def test_of_a_single_member_the_reward_is_its_own_to_the_last_digit(value, how):
    assert combined((value,), how) == value


@given(st.permutations([-2.0, 0.1, 3.5, 7.25]), st.sampled_from(HOWS))
def test_the_order_of_the_verdicts_does_not_count(values, how):
    members = tuple("abcd")
    verdicts = [Verdict(name, value) for name, value in zip(members, values, strict=True)]
    combination = Combination(members, how)
    assert combination.reward(verdicts) == combination.reward(verdicts[::-1])


@pytest.mark.parametrize("how", HOWS)
def test_without_the_verdict_of_a_member_there_is_no_reward_and_others_play_no_part(how):
    combination = Combination(("a", "b"), how)
    a, b, other = Verdict("a", 1.0), Verdict("b", 1.0), Verdict("c", -99.0)
    assert combination.reward([]) is None
    assert combination.reward([a]) is combination.reward([b, other]) is None
    assert combination.reward([a, b, other]) == 1.0


@pytest.mark.parametrize("members", [(), ("a", "a"), ("a", "b", "a")])
def test_a_combination_has_members_each_once(members):
    with pytest.raises(ValueError, match="must be there, each once"):
        Combination(members)


class Faulty(ScriptedScore):
    """Fails on texts that `refuses` names."""

    refuses: tuple[str, ...] = ()

    async def score(self, prompt, answer):
        if answer in self.refuses:
            raise TreeFault(f"{self.name} cannot judge {answer}")
        return await super().score(prompt, answer)


def two(first=len, second=lambda text: -1.0, how="mean", refuses=()):
    """Two judges, `likes` and `fears`; of these the second fails on some texts."""
    judges = ScriptedScore(first, "likes"), Faulty(second, "fears")
    judges[1].refuses = refuses
    return judges, Combination(("likes", "fears"), how)


def test_only_judges_without_a_verdict_are_asked():
    (likes, fears), combination = two()
    rewarding = Rewarding((likes, fears), combination)
    before = Verdict("likes", 40.0, "as it was")
    given = (before, Verdict("somebody else", 3.0))
    verdicts = asyncio.run(rewarding.verdicts(PROMPT, "abc", given))
    assert verdicts == (*given, Verdict("fears", -1.0))
    assert (likes.requests, fears.requests) == ([], [(PROMPT, "abc")])
    assert rewarding.waits_for(given) and not rewarding.waits_for(verdicts)
    assert asyncio.run(rewarding.verdicts(PROMPT, "abc", verdicts)) == verdicts
    assert len(fears.requests) == 1


def test_the_reward_comes_with_the_verdicts_behind_it():
    judges, combination = two()
    reward, verdicts = asyncio.run(Rewarding(judges, combination).reward(PROMPT, "abc"))
    assert (reward, verdicts) == (1.0, (Verdict("likes", 3.0), Verdict("fears", -1.0)))


def test_a_reward_model_sees_the_query_and_the_answer_and_nothing_that_a_verifier_knows():
    seen = []

    async def logit(conversation):
        seen.append(conversation)
        return 1.5

    verdict = asyncio.run(RewardModel("model", logit).score(PROMPT, "abc"))
    assert verdict == Verdict("model", 1.5)
    assert seen == [(user("question"), assistant("abc"))]


async def of_pool(app, patience_s, conversation):
    return patience_s + len(conversation[-1].content) if app == "app" else 0.0


def test_a_reward_model_travels_and_what_it_sees_is_built_in_one_place():
    judge = pickle.loads(pickle.dumps(RewardModel("m", partial(of_pool, "app", 2.0))))
    assert asyncio.run(judge.score(PROMPT, "abc")) == Verdict("m", 5.0)
    building = [f for f in Path("avr").rglob("*.py") if "scored_conversation(" in f.read_text()]
    assert sorted(map(str, building)) == ["avr/core/prompts.py", "avr/core/reward.py"]


def grown():
    return tree(
        response("first"),
        critique("one", response("a b c"), response("good")),
        critique("two", response("other"), response("a b")),
    )


def apart(judges, combination):
    """The tree scored by one judge after the other, as two pools do it."""

    async def in_turn():
        scored = grown()
        for judge in judges:
            scored = await score(scored, Rewarding((judge,), combination))
        return scored

    return asyncio.run(in_turn())


@pytest.mark.parametrize("how", HOWS)
def test_two_judges_in_two_pools_leave_the_tree_that_they_leave_together(how):
    judges, combination = two(how=how)
    at_once = asyncio.run(score(grown(), Rewarding(judges, combination)))
    assert apart(judges, combination) == at_once
    rewards = {r.text: r.reward for r in at_once.responses()}
    assert rewards["good"] == combination.of({"likes": 4.0, "fears": -1.0})
    assert all([v.by for v in r.verdicts] == ["likes", "fears"] for r in at_once.responses())
    swapped = apart(judges[::-1], combination)
    assert {r.text: r.reward for r in swapped.responses()} == rewards


def test_a_response_has_no_reward_until_the_last_member_has_judged_it():
    (likes, fears), combination = two()
    half = asyncio.run(score(grown(), Rewarding((likes,), combination)))
    assert {r.reward for r in half.responses()} == {None}
    assert all(r.verdicts == (Verdict("likes", len(r.text)),) for r in half.responses())
    again = asyncio.run(score(half, Rewarding((likes,), combination)))
    assert again == half and len(likes.requests) == 5
    whole = asyncio.run(score(half, Rewarding((fears,), combination)))
    assert None not in {r.reward for r in whole.responses()}


def test_a_refinement_that_one_of_the_judges_fails_on_is_left_out_however_they_are_asked():
    judges, combination = two(refuses=("a b", "other"))
    at_once = asyncio.run(score(grown(), Rewarding(judges, combination)))
    (level,) = at_once.levels
    assert [[r.text for r in c.refinements] for c in level.critiques] == [["a b c", "good"], []]
    assert (level.num_unscored, level.unscored_reason) == (2, "fears cannot judge other")
    assert level.num_rejected_tokens == 3  # of both texts
    assert apart(judges, combination) == at_once
    # The other way round the second judge never sees what the first has left out.
    swapped = apart(judges[::-1], combination)
    assert [r.text for r in swapped.responses()] == [r.text for r in at_once.responses()]


def test_faults_of_several_judges_add_up_over_their_pools():
    first, second = Faulty(len, "likes"), Faulty(len, "fears")
    first.refuses, second.refuses = ("a b c",), ("a b",)
    combination = Combination(("likes", "fears"))
    (level,) = apart((first, second), combination).levels
    assert [[r.text for r in c.refinements] for c in level.critiques] == [["good"], ["other"]]
    assert (level.num_unscored, level.num_rejected_tokens) == (2, 3 + 2)
    assert level.unscored_reason == "likes cannot judge a b c"


def test_a_first_answer_that_one_of_the_judges_fails_on_is_the_trees_fault():
    judges, combination = two(refuses=("first",))
    with pytest.raises(TreeFault, match="fears cannot judge first"):
        asyncio.run(score(grown(), Rewarding(judges, combination)))
    with pytest.raises(TreeFault, match="fears cannot judge first"):
        apart(judges, combination)


def a_text(answer):
    return Output(f"id-{answer}", f"whole {answer}", answer, 1, "stop", 2)


def test_outputs_keep_the_verdicts_and_the_inputs_own_answer_has_its_reward():
    judges, combination = two(refuses=("bad",))
    opened = open_set(replace(PROMPT, answer="own answer"), "recipe")
    outputs = replace(opened, outputs=(a_text("fine"), a_text("bad")), failures=(a_text(""),))
    scored = asyncio.run(score_outputs(outputs, Rewarding(judges, combination)))
    (fine,) = scored.outputs
    assert (fine.reward, scored.reference) == ((4 - 1) / 2, (10 - 1) / 2)
    assert fine.verdicts == (Verdict("likes", 4.0), Verdict("fears", -1.0))
    malformed, unjudged = scored.failures
    assert (unjudged.failure, unjudged.verdicts) == ("cannot be judged: fears cannot judge bad", ())
    counted = asyncio.run(score_failures(scored, Rewarding(judges, combination)))
    empty = (Verdict("likes", 0.0), Verdict("fears", -1.0))
    assert [(o.reward, o.verdicts) for o in counted.failures] == [(-0.5, empty)] * 2
    assert malformed.reward is None
