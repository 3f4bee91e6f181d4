"""Whole outputs of a recursive model: sampled with bounded retries, scored, stored."""

import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import TEMPLATES, ScriptedGenerate, ScriptedScore
from whole_outputs import SETS, TEXTS, THINK, loop

from avr.core.messages import Message, assistant, user
from avr.core.outputs import (
    open_set,
    sample_outputs,
    score_failures,
    score_outputs,
    set_from_dict,
    set_to_dict,
    thinking_of,
)
from avr.core.reward import Rewarding, RewardModel
from avr.core.roles import TreeFault
from avr.core.trajectory import TRAJECTORY_TEMPLATES
from avr.core.tree import Prompt, Verdict

NAMED = list(TRAJECTORY_TEMPLATES.values())
OPENED = open_set(Prompt.of((user("question"),)), "recipe")


def sampled(policy, num_outputs=2, max_tries=3, templates=TEMPLATES, template=THINK, opened=OPENED):
    return asyncio.run(sample_outputs(opened, policy, templates, template, num_outputs, max_tries))


def says(*texts, finish="stop", **more):
    """A policy whose sample number k of every request is `texts[k]`."""
    return ScriptedGenerate(lambda _, number, sample: texts[sample], finish=finish, **more)


def scored(outputs):
    """The outputs as a reward model scores them, and the conversations that it sees."""
    seen = []

    async def logit(conversation):
        seen.append(conversation)
        return float(len(conversation[-1].content))

    rewarding = Rewarding.by(RewardModel("m", logit))
    return asyncio.run(score_outputs(outputs, rewarding)), seen


def test_outputs_are_whole_texts_with_the_answer_behind_the_thinking():
    texts = (f"\n{loop('one </think> two')} \n", loop("plain", num_turns=0))
    found = sampled(says(*texts, finish="length"))
    assert [o.text for o in found.outputs] == [text.strip() for text in texts]
    assert [o.answer for o in found.outputs] == ["one </think> two", "plain"]
    assert [o.num_turns for o in found.outputs] == [1, 0]
    assert [o.num_tokens for o in found.outputs] == [len(text.split()) for text in texts]
    assert {(o.finish_reason, o.failure, o.reward) for o in found.outputs} == {("length", "", None)}
    assert found == replace(OPENED, outputs=found.outputs)


@pytest.mark.parametrize("max_tries", [1, 4])
def test_retries_are_bounded_and_what_stays_missing_is_counted(max_tries):
    policy = says("no loop", "nor this", "nor that")
    found = sampled(policy, num_outputs=3, max_tries=max_tries)
    assert [n for _, n, _ in policy.requests] == [3] * max_tries
    assert (found.outputs, found.num_missing) == ((), 3)
    assert [f.text for f in found.failures] == ["no loop", "nor this", "nor that"] * max_tries


def test_only_what_is_missing_is_asked_for_again_and_failures_are_kept():
    def late(conversation, number, sample):
        good = (number, sample) in {(0, 1), (1, 0), (2, 0)}
        return loop(f"answer {number}.{sample}") if good else f"malformed {number}.{sample}"

    policy = ScriptedGenerate(late)
    found = sampled(policy, num_outputs=3, max_tries=5)
    assert [n for _, n, _ in policy.requests] == [3, 2, 1]
    assert len({seed for _, _, seed in policy.requests}) == 3
    assert [o.answer for o in found.outputs] == ["answer 0.1", "answer 1.0", "answer 2.0"]
    assert [f.text for f in found.failures] == [f"malformed {n}" for n in ("0.0", "0.2", "1.1")]
    assert (len({o.id for o in found.outputs + found.failures}), found.num_missing) == (6, 0)
    assert sampled(ScriptedGenerate(late), num_outputs=3, max_tries=5) == found


def test_another_model_or_prompt_gives_other_ids():
    other = open_set(Prompt.of((user("other"),)), "recipe")
    cases = (("old", OPENED), ("new", OPENED), ("old", other))
    sets = [sampled(says(loop("a"), identity=name), 1, opened=opened) for name, opened in cases]
    assert len({found.outputs[0].id for found in sets}) == 3
    assert len({OPENED.id, other.id, open_set(OPENED.prompt, "other recipe").id}) == 3


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("", "stop", "does not begin with the start marker"),
        ("an answer", "stop", "does not begin with the start marker"),
        ("<think>\ndraft", "stop", "has no end marker"),
        ("<think>\ndraft", "length", "has no end marker, cut off at its token limit"),
        ("<think>a</think>b</think>", "stop", "markers in the wrong order: start, end, end"),
        ("<think>\ndraft\n</think>\n \n", "stop", "has no final answer"),
    ],
)
def test_failures_say_why(text, finish, reason):
    found = sampled(says(text, finish=finish), num_outputs=1, max_tries=1)
    (failed,) = found.failures
    assert (failed.failure, failed.answer, failed.num_turns) == (reason, "", 0)
    assert (failed.text, failed.finish_reason, failed.reward) == (text.strip(), finish, None)
    assert thinking_of(failed, THINK) == ""


def test_reward_model_sees_the_query_and_final_answers_alone():
    opened = open_set(Prompt.of((user("question"),), "the row's own"), "recipe")
    policy = says(loop("long answer"), "malformed", loop("hm"))
    found = sampled(policy, 3, 1, replace(TEMPLATES, system="Think."), opened=opened)
    assert policy.requests[0][0] == (Message("system", "Think."), user("question"))
    judged, seen = scored(found)
    answers = ("long answer", "hm", "the row's own")
    assert seen == [(user("question"), assistant(text)) for text in answers]
    assert [o.reward for o in judged.outputs + judged.failures] == [11.0, 2.0, None]
    assert [o.verdicts for o in judged.outputs] == [(Verdict("m", 11),), (Verdict("m", 2),)]
    assert tuple(replace(o, reward=None, verdicts=()) for o in judged.outputs) == found.outputs
    assert (judged.num_missing, judged.reference) == (1, 13.0)
    assert scored(opened)[0].reference == 13.0
    assert scored(replace(found, prompt=OPENED.prompt))[0].reference is None


@settings(max_examples=50, deadline=None)
@given(SETS)
def test_set_comes_back_from_plain_data(item):
    assert set_from_dict(set_to_dict(item)) == item
    assert set_from_dict(json.loads(json.dumps(set_to_dict(item)))) == item


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS.filter(str.strip), st.integers(0, 2), st.sampled_from(NAMED))
def test_thinking_and_answer_make_up_the_output(draft, answer, num_turns, template):
    text = loop(answer, num_turns, draft, template)
    (found,) = sampled(says(text), num_outputs=1, template=template).outputs
    inside = found.text.split(template.markers["end"])[0].split(template.markers["start"])[1]
    assert thinking_of(found, template) == template.unescape(inside.strip())
    final = found.text.split(template.markers["end"])[1].strip()
    assert template.unescape(final) == found.answer == answer.strip()


def test_output_that_cannot_be_judged_fails_alone():
    class Refusing(ScriptedScore):
        async def score(self, prompt, answer):
            if answer == "too long":
                raise TreeFault("4097 > 4096")
            return await super().score(prompt, answer)

    found = sampled(says(loop("fine"), loop("too long"), loop("good")), 3)
    judged = asyncio.run(score_outputs(found, Refusing().alone))
    assert [o.answer for o in judged.outputs] == ["fine", "good"]
    (failed,) = judged.failures
    assert (failed.failure, failed.answer) == ("cannot be judged: 4097 > 4096", "")
    assert judged.num_missing == 1


def test_failures_get_the_reward_of_the_empty_answer_asked_for_once():
    found = sampled(says("malformed", "again", loop("fine")), 3, 1)
    engine = ScriptedScore(lambda text: len(text) - 1)
    counted = asyncio.run(score_failures(found, engine.alone))
    assert [o.reward for o in counted.failures] == [-1.0, -1.0]
    assert engine.requests == [(found.prompt, "")]
    nothing = sampled(says(loop("fine")), 1)
    assert asyncio.run(score_failures(nothing, engine.alone)) == nothing
