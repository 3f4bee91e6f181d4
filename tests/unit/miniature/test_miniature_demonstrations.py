"""Demonstrations have the faults their profile names, and no others."""

import itertools
import random
import statistics

import pytest

from avr.miniature.making.demonstrations import (
    CORRECTOR,
    FALSE_BELIEFS,
    LURES,
    POLICY,
    Profile,
    converse,
    corrector_demonstration,
    draw_answer,
    draw_critique,
    draw_fault,
    draw_refinement,
    policy_demonstration,
)
from avr.miniature.oracle import answer_quality, quality, true_critique, true_verdicts
from avr.miniature.prompts import draw_requests
from avr.miniature.vocabulary import CATEGORY_OF
from avr.miniature.world import Answer, Request, Slot

REQUESTS = list(itertools.islice(draw_requests("valid", random.Random(0)), 300))
REQUEST = Request((Slot(3, "fruits"), Slot(2, "tools")))


def test_false_beliefs_and_lures_are_words_of_other_categories() -> None:
    for table in (FALSE_BELIEFS, LURES):
        assert all(CATEGORY_OF[word] != name for name, words in table.items() for word in words)


def test_corrector_answers_are_perfect() -> None:
    rng = random.Random(0)
    assert all(answer_quality(r, draw_answer(r, CORRECTOR, rng)) == 1 for r in REQUESTS)


@pytest.mark.parametrize("kind", ["repeated", "wrong"])
def test_a_drawn_fault_is_the_only_one_and_where_it_says(kind: str) -> None:
    rng = random.Random(1)
    for request in REQUESTS:
        spoilt, (row, place) = draw_fault(request, draw_answer(request, CORRECTOR, rng), kind, rng)
        for number, (slot, words) in enumerate(zip(request.slots, spoilt.lists, strict=True)):
            wanted = ["good"] * len(words)
            if number == row:
                wanted[place] = kind
            assert list(true_verdicts(slot, words)) == wanted


def test_policy_answers_are_as_good_as_meant() -> None:
    rng = random.Random(0)
    mean = statistics.mean(answer_quality(r, draw_answer(r, POLICY, rng)) for r in REQUESTS)
    assert 0.54 < mean < 0.62


def test_corrector_refinement_of_a_policy_answer_is_perfect() -> None:
    rng = random.Random(0)
    for request in REQUESTS:
        critique = draw_critique(request, draw_answer(request, POLICY, rng), CORRECTOR, rng)
        assert answer_quality(request, draw_refinement(request, critique, CORRECTOR, rng)) == 1


def test_refinement_keeps_what_is_called_good_in_its_place() -> None:
    answer = Answer((("apple", "saw", "plum"), ("drill", "axe", "rake")))
    critique = true_critique(REQUEST, answer)
    refined = draw_refinement(REQUEST, critique, CORRECTOR, random.Random(0))
    assert (refined.lists[0][0], refined.lists[0][2]) == ("apple", "plum")
    assert refined.lists[1] == ("drill", "axe")


def test_critique_that_misses_everything_praises_everything() -> None:
    blind = Profile(miss=1.0)
    answer = Answer((("saw", "saw"), ("apple", "axe", "axe")))
    critique = draw_critique(REQUEST, answer, blind, random.Random(0))
    assert {verdict for row in critique.verdicts for verdict in row} == {"good"}
    assert critique.missing == (0, 0)
    assert critique.rating == 10


def test_policy_demonstration_learns_every_assistant_turn() -> None:
    turns = policy_demonstration(REQUEST, random.Random(0))
    assert [turn.role for turn in turns] == ["user", "assistant"] * 3
    assert [turn.learn for turn in turns] == [False, True] * 3


def test_corrector_demonstration_never_learns_a_faulty_answer() -> None:
    rng = random.Random(0)
    for request in REQUESTS:
        turns = corrector_demonstration(request, rng)
        answers = [turns[1], *turns[5::4]]
        assert all(quality(turns[0].text, turn.text) == 1 for turn in answers if turn.learn)


def test_converse_further_round_starts_from_a_spoilt_refinement() -> None:
    spoiler = Profile(fix=0.0, corrupt=1.0, slip=1.0)
    answer = Answer((("apple", "plum", "pear"), ("saw", "axe")))
    turns = converse(
        REQUEST, answer, CORRECTOR, random.Random(0), learn_answer=False, faults=[spoiler]
    )
    assert len(turns) == 10
    assert not turns[5].learn
    assert quality(turns[0].text, turns[5].text) < 1
    assert quality(turns[0].text, turns[9].text) == 1
