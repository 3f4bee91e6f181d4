"""A model that judges its own answers and its own judgements."""

import asyncio
from dataclasses import replace

import pytest
from scripted import TEMPLATES, ScriptedGenerate

from avr.core.messages import user
from avr.core.outputs import (
    Judgement,
    Output,
    open_set,
    set_from_dict,
    set_to_dict,
)
from avr.core.own_judge import OwnJudge, judge_outputs, meta_context
from avr.core.roles import ContextTooLong
from avr.core.tree import Prompt
from avr.rows.funnel import Funnel
from avr.rows.judgement_pairs import make_judgement_pairs
from avr.rows.output_pairs import make_output_pairs

OPENED = open_set(Prompt.of((user("question"),)), "recipe")
TOO_LONG = ContextTooLong.of("policy", 500, 100, 512)
JUDGE = OwnJudge(num_judgements=2, meta_request="META?", max_tries=2)


def output(answer, *judgements, reward=None):
    return Output(f"id-{answer}", answer, answer, 0, "stop", 1, "", reward, judgements)


def judgement(text, rating, meta=None, finish="stop"):
    return Judgement(f"id-{text}", text, rating, finish, 3, meta)


def judged(script, *answers, judge=JUDGE):
    policy = ScriptedGenerate(script)
    outputs = replace(OPENED, outputs=tuple(map(output, answers)))
    return asyncio.run(judge_outputs(outputs, policy, TEMPLATES, judge)), policy


def by_sample(conversation, number, sample):
    """The n-th critique of an answer gives n + 4, or 9 to the answer `good`; meta gives 2 less."""
    if conversation[-1].content == "META?":
        given = int(conversation[-2].content.split("[[")[1].rstrip("]"))
        return f"a judgement of it [[{given - 2}]]"
    rating = 9 if conversation[1].content == "good" else 4 + sample
    return f"critique {sample} of {conversation[1].content} [[{rating}]]"


def test_an_answer_is_worth_the_mean_rating_of_its_judgements():
    found, policy = judged(by_sample, "good", "bad")
    assert [o.reward for o in found.outputs] == [9, 4.5]
    assert [j.rating for j in found.outputs[1].judgements] == [4, 5]
    assert [j.meta_rating for j in found.outputs[1].judgements] == [2, 3]
    assert {j.meta_rating for j in found.outputs[0].judgements} == {None}  # where it was sure
    metas = [c for c, _, _ in policy.requests if c[-1].content == "META?"]
    critique = found.outputs[1].judgements[0].text
    assert meta_context(OPENED.prompt.query, "bad", critique, TEMPLATES, "META?") in metas
    assert [m.role for m in metas[0]] == ["user", "assistant", "user", "assistant", "user"]
    said = ["question", "bad", "CRITIQUE?", "critique 0 of bad [[4]]", "META?"]
    assert [m.content for m in metas[0]] == said
    assert {j.finish_reason for o in found.outputs for j in o.judgements} == {"stop"}
    assert len({j.id for o in found.outputs for j in o.judgements}) == 4
    assert judged(by_sample, "good", "bad")[0] == found


def test_an_answer_that_gets_no_rating_joins_the_failures_and_one_without_meta_stays():
    def script(conversation, number, sample):
        if conversation[-1].content == "META?" or conversation[1].content == "odd":
            return "no rating here"
        return by_sample(conversation, number, sample)

    found, policy = judged(script, "good", "odd")
    assert [o.text for o in found.outputs] == ["good"]
    assert [(o.text, o.answer, o.reward) for o in found.failures] == [("odd", "", None)]
    assert found.failures[0].failure == "cannot be judged: no judgement had a rating"
    assert found.num_missing == 1
    assert {j.meta_rating for j in found.outputs[0].judgements} == {None}
    asked = [n for c, n, _ in policy.requests if c[1].content == "odd"]
    assert asked == [2, 2]  # tries are bounded


def test_one_text_that_is_too_long_costs_the_others_nothing():
    def script(conversation, number, sample):
        if conversation[1].content == "long":
            raise TOO_LONG
        if conversation[-1].content == "META?" and "critique 1" in conversation[-2].content:
            raise TOO_LONG
        return by_sample(conversation, number, sample)

    found, _ = judged(script, "good", "long")
    assert [j.meta_rating for j in found.outputs[0].judgements] == [7, None]
    assert [(o.failure, o.answer) for o in found.failures] == [
        (f"cannot be judged: {TOO_LONG}", "")
    ]


def test_a_judgement_that_stands_alone_is_not_judged_in_turn():
    found, policy = judged(by_sample, "good", judge=replace(JUDGE, num_judgements=1))
    assert [j.meta_rating for j in found.outputs[0].judgements] == [None]
    assert all(c[-1].content != "META?" for c, _, _ in policy.requests)


def test_what_the_judging_cost_is_counted():
    found, _ = judged(by_sample, "good")
    critique, rating = "critique 0 of good [[9]]", "a judgement of it [[7]]"
    tokens = len(critique.split()) + len(rating.split())
    assert [j.num_tokens for j in found.outputs[0].judgements] == [tokens, tokens]


def test_a_set_that_was_stored_before_there_were_judgements_is_read():
    stored = set_to_dict(replace(OPENED, outputs=(output("good"),)))
    old = {k: v for k, v in stored["outputs"][0].items() if k != "judgements"}
    for each in (old, {**old, "judgements": None}):
        assert set_from_dict({**stored, "outputs": [each]}).outputs == (output("good"),)


def test_sets_with_judgements_survive_being_stored():
    found, _ = judged(by_sample, "good", "bad")
    assert set_from_dict(set_to_dict(found)) == found


def test_answers_pair_by_their_ratings():
    found, _ = judged(by_sample, "good", "bad")
    (pair,) = make_output_pairs(lambda: [found], TEMPLATES, frozenset(), Funnel(""), 0.0)
    assert (pair.chosen[0].content, pair.rejected[0].content, pair.margin) == ("good", "bad", 4.5)


def pairs_of(*outputs, query="question"):
    funnel = Funnel("judgements")
    opened = open_set(Prompt.of((user(query),)), "recipe")
    return list(make_judgement_pairs([replace(opened, outputs=outputs)], TEMPLATES, funnel)), funnel


def test_judgements_pair_where_the_ratings_vary_most():
    calm = output("calm", judgement("c1", 5, meta=1), judgement("c2", 5, meta=9))
    torn = output(
        "torn", judgement("t1", 2, meta=3), judgement("t2", 9, meta=7), judgement("t3", 5, meta=4)
    )
    (pair,), _ = pairs_of(calm, torn)
    assert (pair.chosen[0].content, pair.rejected[0].content, pair.margin) == ("t2", "t1", 4)
    assert [m.content for m in pair.prompt] == ["question", "torn", "CRITIQUE?"]
    assert pair.kind == "judgement" and pair.node_ids[1:] == ("id-torn", "id-t2", "id-t1")


@pytest.mark.parametrize(
    ("judgements", "rule"),
    [
        ([judgement("t1", 2, meta=3), judgement("t2", 9)], "two_rated_judgements"),
        ([judgement("t1", 2, meta=3), judgement("t2", 9, meta=3)], "strictly_better"),
        ([judgement("t1", 2, meta=3), judgement("t1", 9, meta=4)], "different_text"),
        ([judgement("t1", 2, meta=3), judgement("t2", 9, 4, finish="length")], "finished"),
    ],
)
def test_what_makes_no_pair_of_judgements_is_counted_by_its_rule(judgements, rule):
    pairs, funnel = pairs_of(output("answer", *judgements))
    assert pairs == [] and funnel.to_dict()["removed"][rule] == 1
    assert funnel.examples == {rule: [open_set(Prompt.of((user("question"),)), "recipe").id]}


LOOPING = "a good start then " + "over and " * 20
RATED = (judgement("t1", 2, meta=3), judgement("t2", 9, meta=4))


@pytest.mark.parametrize(
    ("judged", "rule"),
    [
        (replace(output("answer", *RATED), finish_reason="length"), "finished"),
        (output(LOOPING, *RATED), "no_loop"),
        (output("answer", RATED[0], judgement(LOOPING, 9, meta=4)), "no_loop"),
    ],
)
def test_neither_the_judged_answer_nor_the_chosen_critique_is_cut_off_or_loops(judged, rule):
    pairs, funnel = pairs_of(judged)
    assert pairs == [] and funnel.removed[rule] == 1
    rejected = output("answer", judgement(LOOPING, 2, meta=3, finish="length"), RATED[1])
    assert len(pairs_of(rejected)[0]) == 1


def test_a_pair_of_judgements_that_was_made_before_is_not_made_again():
    funnel, opened = Funnel("judgements"), open_set(Prompt.of((user("question"),)), "recipe")
    twice = [replace(opened, outputs=(output("answer", *RATED),))] * 2
    assert len(list(make_judgement_pairs(twice, TEMPLATES, funnel))) == 1
    assert funnel.removed["unique"] == 1
    other = open_set(Prompt.of((user("other"),)), "recipe")
    funnel, sets = Funnel("judgements"), [twice[0], replace(other, outputs=twice[0].outputs)]
    assert len(list(make_judgement_pairs(sets, TEMPLATES, funnel))) == 2
