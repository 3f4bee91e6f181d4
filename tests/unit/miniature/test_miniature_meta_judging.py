"""Meta-judgements in the miniature world: what they say of each verdict, and their form."""

import itertools
import random

import pytest

from avr.config.load import load
from avr.miniature.making.demonstrations import POLICY, draw_answer, draw_critique
from avr.miniature.making.meta_judging import (
    META_REQUEST,
    is_meta_judgement,
    meta_demonstration,
    meta_judgement,
    two_critiques,
)
from avr.miniature.making.tokenizer import build_tokenizer
from avr.miniature.oracle import true_critique
from avr.miniature.prompts import draw_requests
from avr.miniature.world import (
    CHECK_REQUEST,
    Answer,
    Critique,
    Request,
    Slot,
    parse_answer,
    parse_critique,
    parse_prompt,
    render_prompt,
)
from avr.recipes.baseline import BaselineConfig

REQUESTS = list(itertools.islice(draw_requests("valid", random.Random(0)), 300))
DRAWN = [
    (request, meta_demonstration(request, random.Random(n))) for n, request in enumerate(REQUESTS)
]
FRUITS_AND_TOOLS = Request((Slot(3, "fruits"), Slot(2, "tools")))


def test_document_has_an_answer_a_critique_and_teaches_the_meta_judgement_alone():
    for request, turns in DRAWN:
        assert [turn.role for turn in turns] == ["user", "assistant"] * 3
        assert [turn.learn for turn in turns] == [False] * 5 + [True]
        assert [turn.text for turn in turns[2::2]] == [CHECK_REQUEST, META_REQUEST]
        answer = parse_answer(request, turns[1].text)
        critique, judged = (parse_critique(request, turns[place].text) for place in (3, 5))
        assert answer.lists == critique.lists == judged.lists
        assert is_meta_judgement(request, turns[3].text, turns[5].text)


def test_a_judge_that_sees_the_truth_marks_each_wrong_verdict_and_no_other():
    answer = Answer((("apple", "saw", "plum"), ("drill", "drill")))
    critique = Critique(answer.lists, (("wrong", "wrong", "good"), ("good", "good")), (0, 0), 6)
    judged = meta_judgement(critique, true_critique(FRUITS_AND_TOOLS, answer))
    assert judged.verdicts == (("wrong", "good", "good"), ("good", "wrong"))
    assert (judged.rating, judged.missing) == (6, (0, 0))


def test_three_critiques_of_an_answer_mostly_have_a_best_and_a_worst():
    rng = random.Random(1)
    several = 0
    for request in REQUESTS:
        answer = draw_answer(request, POLICY, rng)
        truth = true_critique(request, answer)
        critiques = [draw_critique(request, answer, POLICY, rng) for _ in range(3)]
        several += len({meta_judgement(critique, truth).rating for critique in critiques}) > 1
    assert several > len(REQUESTS) / 2


CRITIQUE = (
    "Fruits: a1 apple good, a2 saw wrong, none missing. Tools: b1 drill good, none missing. "
    "Rating: [[7]]"
)
JUDGED = (
    "Fruits: a1 apple good, a2 saw good, none missing. Tools: b1 drill good, none missing. "
    "Rating: [[10]]"
)


@pytest.mark.parametrize(
    "spoilt",
    [
        ("apple", "plum"),  # another item
        ("saw good", "saw repeated"),  # a verdict on the item, not on the critique's verdict
        ("none", "one"),  # what is missing is nothing it speaks of
        ("[[10]]", "[[5]]"),  # a rating far from what it says
        (" Rating: [[10]]", ""),
    ],
)
def test_a_text_that_departs_from_the_form_is_no_meta_judgement(spoilt):
    assert is_meta_judgement(FRUITS_AND_TOOLS, CRITIQUE, JUDGED)
    assert not is_meta_judgement(FRUITS_AND_TOOLS, CRITIQUE, JUDGED.replace(*spoilt, 1))


def test_of_two_critiques_the_first_is_true_and_the_other_has_other_verdicts():
    prompts = [render_prompt(request) for request in REQUESTS]
    for prompt, text, one, other in zip(prompts, *two_critiques(prompts), strict=True):
        request = parse_prompt(prompt)
        answer = parse_answer(request, text)
        assert parse_critique(request, one) == true_critique(request, answer)
        assert parse_critique(request, other).lists == answer.lists
        marks = meta_judgement(parse_critique(request, other), true_critique(request, answer))
        assert "wrong" in sum(marks.verdicts, ())


def test_the_request_is_made_of_whole_tokens():
    tokenizer = build_tokenizer()
    pieces = tokenizer(META_REQUEST, add_special_tokens=False)["input_ids"]
    assert len(pieces) == len(META_REQUEST.split()) + 1  # and the full stop


def test_the_recipe_asks_in_these_words():
    recipe = load(BaselineConfig, "conf/miniature/meta_rewarding.yaml", [])
    assert recipe.outputs.meta_request == META_REQUEST
