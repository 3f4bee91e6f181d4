"""Judgements of critiques in the miniature world: what they say of each verdict, and their form."""

import itertools
import random

from avr.config_stage2 import Stage2Config
from avr.loading import load
from avr.miniature.judging import (
    JUDGE_REQUEST,
    judge_critique,
    judging_demonstration,
)
from avr.miniature.oracle import true_critique
from avr.miniature.prompts import draw_requests
from avr.miniature.tokenizer import build_tokenizer
from avr.miniature.world import (
    CHECK_REQUEST,
    Answer,
    Critique,
    Request,
    Slot,
    parse_answer,
    parse_critique,
)

REQUESTS = list(itertools.islice(draw_requests("valid", random.Random(0)), 300))
DRAWN = [
    (request, judging_demonstration(request, random.Random(n)))
    for n, request in enumerate(REQUESTS)
]


def test_document_has_an_answer_a_critique_and_teaches_the_judgement_alone():
    for request, turns in DRAWN:
        assert [turn.role for turn in turns] == ["user", "assistant"] * 3
        assert [turn.learn for turn in turns] == [False] * 5 + [True]
        assert [turn.text for turn in turns[2::2]] == [CHECK_REQUEST, JUDGE_REQUEST]
        answer = parse_answer(request, turns[1].text)
        critique, judgement = (parse_critique(request, turns[place].text) for place in (3, 5))
        assert answer.lists == critique.lists == judgement.lists


def test_a_judge_that_sees_the_truth_marks_each_wrong_verdict_and_no_other():
    request = Request((Slot(3, "fruits"), Slot(2, "tools")))
    answer = Answer((("apple", "saw", "plum"), ("drill", "drill")))
    critique = Critique(answer.lists, (("wrong", "wrong", "good"), ("good", "good")), (0, 0), 6)
    judgement = judge_critique(critique, true_critique(request, answer))
    assert judgement.verdicts == (("wrong", "good", "good"), ("good", "wrong"))
    assert judgement.rating == 6


def test_judgements_differ_so_that_there_is_a_best_and_a_worst():
    ratings = {parse_critique(request, turns[5].text).rating for request, turns in DRAWN}
    assert len(ratings) > 4


def test_the_request_is_made_of_whole_tokens():
    tokenizer = build_tokenizer()
    pieces = tokenizer(JUDGE_REQUEST, add_special_tokens=False)["input_ids"]
    assert len(pieces) == len(JUDGE_REQUEST.split()) + 1  # and the full stop


def test_the_recipe_asks_in_these_words():
    recipe = load(Stage2Config, "conf/miniature/meta_rewarding.yaml", [])
    assert recipe.outputs.meta_request == JUDGE_REQUEST
