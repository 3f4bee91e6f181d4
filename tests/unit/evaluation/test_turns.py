"""Searches turn by turn: what was taken for better, and where that was wrong."""

import pytest
from scripted import critique, response, searched, tree

from avr.evaluation.turns import turns_of

QUALITY = {"a": 0.2, "b": 0.6, "c": 0.4, "d": 0.9}


def oracle(query, text):
    assert query == "question"
    return QUALITY[text]


# y0 a; turn 1 takes b; turn 2 takes c, which only the reward model likes; turn 3 finds nothing.
DEEP = searched(
    response("a", 1.0),
    (critique("k1", response("b", 2.0)),),
    (critique("k2", response("c", 2.5)),),
    (critique("k3", response("a", 0.0)),),
)
SHALLOW = searched(response("d", 3.0), (critique("k4", response("a", 1.0)),))


def test_searches_that_ended_stay_as_they_ended():
    turns = turns_of([DEEP, SHALLOW], oracle)
    assert [t.number for t in turns] == [0, 1, 2]
    assert [t.reward for t in turns] == pytest.approx([2.0, 2.5, 2.75])
    assert [t.quality for t in turns] == pytest.approx([0.55, 0.75, 0.65])
    assert [t.num_taken for t in turns] == [0, 1, 1]


def test_a_turn_that_only_the_reward_model_likes_is_counted():
    first, second = turns_of([DEEP, SHALLOW], oracle)[1:]
    assert (first.reward_gain, first.quality_gain) == (1.0, pytest.approx(0.4))
    assert (second.reward_gain, second.quality_gain) == (0.5, pytest.approx(-0.2))
    assert (first.num_worse, second.num_worse) == (0, 1)


def test_without_an_oracle_there_are_rewards():
    turns = turns_of([DEEP], None)
    assert [t.reward for t in turns] == [1.0, 2.0, 2.5]
    assert {(t.quality, t.quality_gain, t.num_worse) for t in turns} == {(None, None, None)}


def test_searches_that_never_improved_have_one_turn():
    (turn,) = turns_of([SHALLOW, tree(response("d", 1.0))], oracle)
    assert (turn.number, turn.num_taken, turn.reward_gain) == (0, 0, None)
    with pytest.raises(ValueError, match="no searched trees"):
        turns_of([], oracle)
