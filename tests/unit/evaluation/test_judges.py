"""Judges: what they make of two answers, whichever way round they are shown."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avr.core.messages import assistant, user
from avr.core.reward import Rewarding
from avr.core.tree import Verdict as Said
from avr.evaluation.arena_hard import Verdict
from avr.evaluation.judges import Duel, EndpointJudge, JudgeError, OracleJudge, Reply, RewardJudge

PROMPT = (user("Name a fruit."), assistant("Which?"), user("A red one."))


def prefer(judge, baseline, ours):
    return asyncio.run(judge.prefer(Duel(PROMPT, baseline, ours)))


class LikesLength:
    """Fakes a reward model: a logit for every ten characters."""

    name = "length"

    async def score(self, prompt, answer):
        assert prompt.query == PROMPT
        return Said(self.name, len(answer) / 10)


class ScriptedEndpoint:
    """Replies in the order of a script, and keeps what it was asked."""

    def __init__(self, *replies):
        self._replies = list(replies)
        self.asked = []

    async def ask(self, system, shown):
        self.asked.append(shown)
        return Reply(self._replies.pop(0), "scripted-1", 100, 10)


class LikesA:
    """Prefers what it is shown first, as weak judges do."""

    async def ask(self, system, shown):
        return Reply("I like the first. [[A>B]]")


class LikesApples:
    async def ask(self, system, shown):
        a, b = (re.search(rf"<{s}>\n(.*)\n</{s}>", shown, re.DOTALL)[1] for s in "AB")
        good = "apple" in a, "apple" in b
        verdicts = {(True, False): "A>>B", (False, True): "B>>A"}
        return Reply(f"Not [[A=B]], I think: [[{verdicts.get(good, 'A=B')}]]")


def test_the_oracle_says_win_draw_or_loss():
    judge = OracleJudge(lambda query, text: float("apple" in text) + len(query) * 0)
    assert prefer(judge, "a pear", "an apple").value == 2
    assert prefer(judge, "an apple", "a pear").value == 1
    assert prefer(judge, "an apple", "one apple").value == 1.5


def test_the_reward_judge_is_bradley_terry():
    judge = RewardJudge(Rewarding.by(LikesLength()))
    assert prefer(judge, "x" * 10, "y" * 20).value == pytest.approx(1.7310585786)
    assert prefer(judge, "x" * 20, "y" * 10).value == pytest.approx(1.2689414214)
    assert prefer(judge, "x" * 100000, "y").value == pytest.approx(1)


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_swapped_answers_mirror_every_preference(one, other):
    judges = [
        OracleJudge(lambda query, text: len(text)),
        RewardJudge(Rewarding.by(LikesLength())),
        EndpointJudge(LikesApples().ask),
        EndpointJudge(LikesA().ask),
    ]
    for judge in judges:
        both = prefer(judge, one, other).value + prefer(judge, other, one).value
        assert both == pytest.approx(3)


def test_a_judge_that_likes_the_first_place_draws():
    assert prefer(EndpointJudge(LikesA().ask), "pear", "apple").value == 1.5


def test_both_orders_are_asked_and_the_last_verdict_counts():
    judge = EndpointJudge(LikesApples().ask)
    got = prefer(judge, "a pear", "an apple")
    assert got.value == 2
    assert got.verdicts == (Verdict.B_MUCH_BETTER, Verdict.A_MUCH_BETTER)
    endpoint = ScriptedEndpoint("[[A>B]]", "[[A=B]]")
    assert prefer(EndpointJudge(endpoint.ask), "pear", "apple").value == 1.25
    first, second = endpoint.asked
    assert "<A>\npear\n</A>\n\n<B>\napple\n</B>" in first
    assert "<A>\napple\n</A>\n\n<B>\npear\n</B>" in second
    assert "user: Name a fruit.\n\nassistant: Which?\n\nuser: A red one." in first


def test_a_reply_without_a_verdict_is_asked_for_again_and_its_tokens_count():
    endpoint = ScriptedEndpoint("hm", "[[A>B]]", "hm", "hm", "hm")
    with pytest.raises(
        JudgeError, match=r"3 replies held no verdict; .* ended with 'hm'"
    ) as caught:
        prefer(EndpointJudge(endpoint.ask), "pear", "apple")
    assert (caught.value.prompt_tokens, caught.value.completion_tokens) == (500, 50)
    endpoint = ScriptedEndpoint("hm", "[[B>A]]", "[[A>B]]")
    got = prefer(EndpointJudge(endpoint.ask), "pear", "apple")
    assert (got.prompt_tokens, got.completion_tokens) == (300, 30)
    assert got.model == "scripted-1"


def test_a_duel_is_known_by_its_content():
    one = Duel(PROMPT, "a", "b")
    assert one.id == Duel(PROMPT, "a", "b").id
    assert len({one.id, Duel(PROMPT, "b", "a").id, Duel(PROMPT[-1:], "a", "b").id}) == 3
