"""Whole outputs of a recursive model: sampled with bounded retries, scored, paired, stored."""

import asyncio
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import TEMPLATES, ScriptedGenerate, ScriptedScore

from avr.core.funnel import Funnel
from avr.core.messages import Message, assistant, user
from avr.core.outputs import (
    Output,
    OutputSet,
    make_output_pairs,
    open_set,
    sample_outputs,
    score_failures,
    score_outputs,
    set_from_dict,
    set_to_dict,
    thinking_of,
)
from avr.core.roles import TreeFault
from avr.core.selection import PROFILES, SWITCHES
from avr.core.trajectory import TRAJECTORY_TEMPLATES, Trajectory, Turn, render_trajectory
from avr.core.tree import Prompt

NAMED = list(TRAJECTORY_TEMPLATES.values())
THINK = TRAJECTORY_TEMPLATES["think"]
OPENED = open_set(Prompt.of((user("question"),)), "recipe")
WORDY = " ".join(f"the word{i}" for i in range(60))  # honest, but "the" 60 times


def loop(answer, num_turns=1, draft="draft", template=THINK):
    turns = (Turn("bad", "better"),) * num_turns
    return render_trajectory(Trajectory(draft, turns, "fine", answer), template)


def sampled(policy, num_outputs=2, max_tries=3, templates=TEMPLATES, template=THINK, opened=OPENED):
    return asyncio.run(sample_outputs(opened, policy, templates, template, num_outputs, max_tries))


def says(*texts, finish="stop", **more):
    """A policy whose sample number k of every request is `texts[k]`."""
    return ScriptedGenerate(lambda _, number, sample: texts[sample], finish=finish, **more)


def scored(outputs):
    engine = ScriptedScore(len)
    return asyncio.run(score_outputs(outputs, engine)), engine


def output(answer, reward, draft="draft", finish="stop"):
    text = loop(answer, draft=draft)
    return Output(f"{answer}-{draft}-{reward}", text, answer, 1, finish, len(text), "", reward)


def outputs_of(*outputs, reference=None, query="question"):
    opened = open_set(Prompt.of((user(query),)), "recipe")
    return replace(opened, outputs=outputs, reference=reference)


def pairs_of(*sets, switches=(), min_margin=0.0):
    funnel = Funnel("")
    pairs = make_output_pairs(sets, TEMPLATES, frozenset(switches), funnel, min_margin)
    return list(pairs), funnel


def test_outputs_within_the_least_margin_make_no_pair():
    near = outputs_of(output("a", 1.0), output("b", 2.0))
    far = outputs_of(output("a", 1.0), output("b", 2.5), query="other")
    pairs, funnel = pairs_of(near, far, min_margin=1.0)
    assert [pair.margin for pair in pairs] == [1.5]
    assert funnel.removed["min_margin"] == 1


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
    judged, engine = scored(found)
    answers = ("long answer", "hm", "the row's own")
    assert engine.requests == [(user("question"), assistant(text)) for text in answers]
    assert [o.reward for o in judged.outputs + judged.failures] == [11.0, 2.0, None]
    assert tuple(replace(o, reward=None) for o in judged.outputs) == found.outputs
    assert (judged.num_missing, judged.reference) == (1, 13.0)
    assert scored(opened)[0].reference == 13.0
    assert scored(replace(found, prompt=OPENED.prompt))[0].reference is None


BEST, MIDDLE, WORST = output("best", 3.0), output("middle", 2.0), output("last", -1.0)


def test_pair_is_the_best_and_the_worst_whole_output():
    item = outputs_of(MIDDLE, WORST, output("tied low", -1.0), BEST, output("tied", 3.0))
    ((pair,), _) = pairs_of(item)
    assert pair.prompt == (user("question"),)
    assert (pair.chosen, pair.rejected) == ((assistant(BEST.text),), (assistant(WORST.text),))
    assert (pair.kind, pair.margin) == ("output", 4.0)
    assert pair.node_ids == (item.id, BEST.id, WORST.id)


LONG, LOOP = output("x" * 999, 1.0), output("over and " * 20, 2.0)
CUT, WORDS = output("cut", 2.0, finish="length"), output("word", 2.0, WORDY)


@pytest.mark.parametrize(
    ("rule", "item"),
    [
        ("two_outputs", outputs_of()),
        ("two_outputs", outputs_of(BEST)),
        ("strictly_better", outputs_of(output("a", 1.0), output("b", 1.0))),
        ("different_text", outputs_of(output("a", 2.0), output("a", 1.0, "other"))),
        ("answer_no_longer", outputs_of(LONG, WORST)),
        ("beats_reference", outputs_of(BEST, WORST, reference=3.5)),
        ("beats_reference", outputs_of(BEST, WORST, reference=3.0)),
        ("finished", outputs_of(CUT, WORST)),
        ("no_loop", outputs_of(LOOP, replace(LONG, reward=0.0))),
        ("no_repeated_word", outputs_of(WORDS, WORST)),
    ],
)
def test_each_rule_removes_what_breaks_it_and_nothing_else(rule, item):
    fine = outputs_of(BEST, WORST, reference=2.9, query="other")
    pairs, funnel = pairs_of(fine, item, switches={rule})
    assert [pair.prompt[0].content for pair in pairs] == ["other"]
    assert (funnel.num_in, funnel.num_out, funnel.removed[rule]) == (2, 1, 1)
    assert funnel.examples == {rule: [item.id]}
    switches = PROFILES["outputs"]["recommended"] | PROFILES["outputs"]["as_released"]
    assert len(pairs_of(item, switches=switches - {rule})[0]) == (rule in switches)


def test_rules_look_at_the_chosen_text_only_and_duplicates_at_both():
    bad = output("over and " * 20, -2.0, WORDY, "length")
    twin = replace(outputs_of(BEST, bad), id="twin")
    trio = (outputs_of(BEST, bad), twin, outputs_of(BEST, WORST))
    pairs, funnel = pairs_of(*trio, switches=set(SWITCHES) - {"answer_no_longer"})
    assert [pair.margin for pair in pairs] == [5.0, 4.0]
    assert funnel.examples == {"unique": ["twin"]}
    assert len({pair.id for pair in pairs_of(*trio)[0]}) == 3


def test_outputs_without_rewards_are_not_paired():
    with pytest.raises(ValueError, match="output node has no reward yet"):
        pairs_of(outputs_of(BEST, replace(WORST, id="node", reward=None)))


PIECES = ["word", "</think>", "<critique>\n", "<\\/think>", "\\", "\n", " ", "\u2028"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
REWARDS = st.integers(-2, 2).map(float)
OUTPUTS = st.builds(output, TEXTS.map(str.strip), REWARDS, draft=TEXTS)
LISTS = st.lists(OUTPUTS, max_size=4).map(tuple)
PROMPTS = st.builds(Prompt.of, TEXTS.map(lambda text: (user(text),)), st.none() | TEXTS, TEXTS)
NUMBERS = st.integers(0, 3)
SETS = st.builds(OutputSet, st.text(), PROMPTS, LISTS, LISTS, NUMBERS, st.none() | REWARDS, TEXTS)
MANY_SETS = st.lists(SETS, max_size=5, unique_by=lambda item: item.id)


@settings(max_examples=100, deadline=None)
@given(MANY_SETS, st.sampled_from([frozenset(), *PROFILES["outputs"].values()]))
def test_chosen_is_strictly_better_and_all_sets_are_counted(sets, switches):
    pairs, funnel = pairs_of(*sets, switches=switches)
    assert funnel.num_in == len(sets) == funnel.num_out + sum(funnel.removed.values())
    assert funnel.num_out == len(pairs) == len({pair.id for pair in pairs})
    for pair in pairs:
        item = next(item for item in sets if item.id == pair.node_ids[0])
        outputs = {o.id: o for o in item.outputs}
        best, worst = (outputs[node] for node in pair.node_ids[1:])
        rewards = {o.reward for o in item.outputs}
        assert (best.reward, worst.reward) == (max(rewards), min(rewards))
        assert pair.margin == best.reward - worst.reward > 0
        assert (pair.chosen, pair.rejected) == ((assistant(best.text),), (assistant(worst.text),))
        assert pair.chosen != pair.rejected
        assert "answer_no_longer" not in switches or len(best.answer) <= len(worst.answer)
        if "beats_reference" in switches and item.reference is not None:
            assert best.reward > item.reference


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
        async def score(self, conversation):
            if conversation[-1].content == "too long":
                raise TreeFault("4097 > 4096")
            return await super().score(conversation)

    found = sampled(says(loop("fine"), loop("too long"), loop("good")), 3)
    judged = asyncio.run(score_outputs(found, Refusing()))
    assert [o.answer for o in judged.outputs] == ["fine", "good"]
    (failed,) = judged.failures
    assert (failed.failure, failed.answer) == ("cannot be judged: 4097 > 4096", "")
    assert judged.num_missing == 1


def test_failures_get_the_reward_of_the_empty_answer_asked_for_once():
    found = sampled(says("malformed", "again", loop("fine")), 3, 1)
    engine = ScriptedScore(lambda text: len(text) - 1)
    counted = asyncio.run(score_failures(found, engine))
    assert [o.reward for o in counted.failures] == [-1.0, -1.0]
    assert engine.requests == [(user("question"), assistant(""))]
    nothing = sampled(says(loop("fine")), 1)
    assert asyncio.run(score_failures(nothing, engine)) == nothing
