"""Rewards of grown trees made anew: under another combination, or without what length is worth."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import critique, response, tree

from avr.core.reward import Combination
from avr.core.tree import Verdict
from avr.rows.rewarded import length_slope, rewarded

MEMBERS = ("a", "b")


def judged(text, a, b, how="mean"):
    verdicts = (Verdict("a", a), Verdict("b", b))
    reward = Combination(MEMBERS, how).reward(verdicts)
    return replace(response(text, reward), verdicts=verdicts)


GROWN = tree(
    judged("first", 0.0, 0.0),
    critique("one", judged("liked by a", 9.0, -3.0), judged("liked by both", 2.0, 2.0)),
    critique("two", judged("worse", -1.0, -3.0)),
)


def again(*trees, how="mean", **more):
    return list(rewarded(lambda: trees, Combination(MEMBERS, how), **more))


def rewards(grown):
    return {r.text: r.reward for r in grown.responses()}


def test_the_same_combination_gives_the_same_trees():
    assert again(GROWN) == [GROWN]


def test_another_combination_gives_other_rewards_and_changes_nothing_else():
    (found,) = again(GROWN, how="minimum")
    assert rewards(found) == {"first": 0.0, "liked by a": -3.0, "liked by both": 2.0, "worse": -3.0}
    assert (GROWN.best_refined()[1].text, found.best_refined()[1].text) == (
        "liked by a",
        "liked by both",
    )
    assert again(found) == [GROWN]  # verdicts stay


def test_trees_without_verdicts_keep_their_rewards():
    old = tree(response("first", 1.0), critique("c", response("a", 2.0)))
    assert again(old, how="minimum") == [old]
    assert again(GROWN, old, how="minimum")[1] == old


def of_length(*pairs, query="question"):
    """A tree of texts of so many characters, with so much reward."""
    (length, reward), *others = pairs
    texts = [response("x" * n, r) for n, r in others]
    return tree(response("x" * length, reward), critique("c", *texts), query=query)


def test_the_slope_is_the_reward_of_a_character_between_answers_to_one_prompt():
    assert length_slope([of_length((10, 1.0), (20, 2.0), (30, 3.0))]) == pytest.approx(0.1)
    assert length_slope([of_length((10, 1.0), (20, 1.0))]) == 0.0
    assert length_slope([of_length((10, 3.0), (20, 2.0))]) == pytest.approx(-0.1)
    # Another prompt may have longer answers and higher rewards: that says nothing.
    far = of_length((1010, 91.0), (1020, 92.0), query="other")
    assert length_slope([of_length((10, 1.0), (20, 2.0)), far]) == pytest.approx(0.1)


def test_where_no_lengths_differ_there_is_no_slope():
    assert length_slope([]) == 0.0
    assert length_slope([of_length((10, 1.0), (10, 5.0)), tree(response("alone", 1.0))]) == 0.0


def test_without_what_length_is_worth_rewards_that_owe_all_to_it_are_equal():
    grown = of_length((10, 1.0), (20, 2.0), (30, 3.0))
    (found,) = again(grown, length_calibrated=True)
    assert [r.reward for r in found.responses()] == pytest.approx([0.0, 0.0, 0.0])
    assert [r.text for r in found.responses()] == [r.text for r in grown.responses()]


LENGTHS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(-50, 50).map(float)), min_size=2, max_size=5
)


@given(st.lists(LENGTHS, min_size=1, max_size=4))
def test_a_second_calibration_finds_nothing_more(all_pairs):
    trees = [of_length(*pairs, query=f"q{n}") for n, pairs in enumerate(all_pairs)]
    calibrated = again(*trees, length_calibrated=True)
    assert length_slope(calibrated) == pytest.approx(0.0, abs=1e-9)
    assert len(calibrated) == len(trees)
