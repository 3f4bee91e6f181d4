"""Greedy search: which answer each level criticises, when it ends, and what it found."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import TEMPLATES, ScriptedGenerate, ScriptedScore, critique, response, searched

from avr.core.growth import Shape, correct, respond, score
from avr.core.messages import assistant, user
from avr.core.roles import ContextTooLong, TreeFault
from avr.core.search import (
    best_answer,
    best_of,
    closing_critique,
    has_improved,
    improving_turns,
    search,
)
from avr.core.tree import Prompt, plant, reward_of

TOO_LONG = ContextTooLong.of("policy", 500, 100, 512)
TWO_BY_TWO = Shape()
PLANTED = plant(Prompt.of((user("question"),)), "recipe")


def run(script, reward, max_depth=3, shape=TWO_BY_TWO):
    """The searched tree, and the engine with the requests it saw."""
    engine = ScriptedGenerate(script)
    scorer = ScriptedScore(reward)
    return asyncio.run(search(PLANTED, engine, scorer.alone, TEMPLATES, shape, max_depth)), engine


def deeper(conversation, number, sample):
    """Refinements of an answer of depth k have depth k + 1; y0 has depth 0."""
    match conversation[-1].content:
        case "CRITIQUE?":
            return f"critique {number}.{sample} Rating: [[7]]"
        case "REFINE?":
            return f"answer {depth_of(conversation[1].content) + 1} {number}.{sample}"
    return "answer 0 0.0"


def depth_of(text):
    return int(text.split()[1])


def curve(*rewards):
    """All answers of one depth have the same reward."""
    return lambda text: rewards[depth_of(text)]


def faulty_at(depth, request, fault):
    """`deeper`, but `fault` (a text, or an exception to raise) once the answer has that depth."""

    def script(conversation, number, sample):
        asked, answer = conversation[-1].content, conversation[1:2]
        if asked == request and depth_of(answer[0].content) == depth:
            if isinstance(fault, Exception):
                raise fault
            return fault
        return deeper(conversation, number, sample)

    return script


@pytest.mark.parametrize("rewards", [(0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("shape", [Shape(2, 2), Shape(1, 3), Shape(3, 1, max_tries=2)])
def test_search_of_depth_one_is_what_stage_1_grows(rewards, shape):
    def sometimes_malformed(conversation, number, sample):
        text = deeper(conversation, number, sample)
        return "" if crc32(text.encode()) % 4 == 0 and text != "answer 0 0.0" else text

    async def stage_1():
        engine = ScriptedGenerate(sometimes_malformed)
        tree = await respond(PLANTED, engine, TEMPLATES, shape.max_tries)
        tree = await correct(tree, engine, TEMPLATES, shape)
        return await score(tree, ScriptedScore(curve(*rewards)).alone), engine.requests

    grown, requests = asyncio.run(stage_1())
    tree, engine = run(sometimes_malformed, curve(*rewards), 1, shape)
    assert tree == grown
    assert engine.requests == requests
    assert len(tree.levels) == 1


@pytest.mark.parametrize(
    ("rewards", "num_levels", "best"),
    [
        ((5, 1, 9, 9, 9), 1, 0),
        ((5, 5, 9, 9, 9), 1, 0),  # a tie is no improvement
        ((0, 1, 1, 9, 9), 2, 1),
        ((0, 1, 2, 1.5, 9), 3, 2),
        ((-9, -8, -7, -6.5, -6.4), 4, 4),
    ],
)
def test_search_ends_at_the_first_level_without_a_strictly_better_answer(rewards, num_levels, best):
    tree, _ = run(deeper, curve(*rewards), max_depth=4)
    assert len(tree.levels) == num_levels
    assert depth_of(best_answer(tree).text) == best
    assert len(improving_turns(tree)) == best


@pytest.mark.parametrize("max_depth", [0, 1, 2, 5])
def test_search_that_keeps_improving_ends_at_max_depth(max_depth):
    tree, engine = run(deeper, depth_of, max_depth)
    assert len(tree.levels) == max_depth
    assert all(has_improved(tree, level) for level in tree.levels)
    assert all(r.reward is not None for r in tree.responses())
    assert closing_critique(tree) is None
    assert len(engine.requests) == 1 + 3 * max_depth  # y0; critiques, then two of refinements


def test_each_level_criticises_the_best_answer_so_far_and_sees_nothing_else():
    rewards = {"answer 1 2.1": 3.0, "answer 2 5.0": 4.0}  # neither the first nor the last sample
    tree, engine = run(deeper, lambda text: rewards.get(text, 0.0))
    best = ["answer 0 0.0", *rewards]
    of = {r.id: r.text for r in tree.responses()}
    assert [of[level.of] for level in tree.levels] == best
    asked = [c for c, _, _ in engine.requests if c[-1].content == "CRITIQUE?"]
    assert asked == [(user("question"), assistant(t), user("CRITIQUE?")) for t in best]
    assert [r.text for _, r in improving_turns(tree)] == list(rewards)
    assert best_answer(tree).text == "answer 2 5.0"


def test_level_whose_critiques_are_all_malformed_ends_the_search():
    shape = Shape(2, 2, max_tries=3)
    tree, engine = run(faulty_at(1, "CRITIQUE?", "no rating"), depth_of, 5, shape)
    first, last = tree.levels
    assert (last.critiques, last.num_dropped, last.num_rejected) == ((), 2, 6)
    assert last.of == best_answer(tree).id == best_of(first)[1].id
    assert best_of(last) is None
    assert closing_critique(tree) is None
    assert len(engine.requests) == 1 + 3 + 3


def test_level_without_a_refinement_ends_the_search_with_its_critique():
    tree, _ = run(faulty_at(1, "REFINE?", " "), depth_of, 5)
    assert len(tree.levels) == 2
    assert tree.levels[1].num_dropped_refinements == 4
    assert closing_critique(tree) == tree.levels[1].critiques[0]
    assert depth_of(best_answer(tree).text) == 1


@pytest.mark.parametrize("request_", ["CRITIQUE?", "REFINE?"])
def test_context_too_long_in_a_later_turn_keeps_what_was_found(request_):
    tree, _ = run(faulty_at(2, request_, TOO_LONG), depth_of, 5)
    assert tree == run(deeper, depth_of, 2)[0]
    assert closing_critique(tree) is None


@pytest.mark.parametrize("request_", ["CRITIQUE?", "REFINE?"])
def test_context_too_long_in_the_first_turn_is_the_trees_fault(request_):
    with pytest.raises(TreeFault, match="too long for the policy: 500 tokens"):
        run(faulty_at(0, request_, TOO_LONG), depth_of)


def test_answer_too_long_for_the_reward_model_in_a_later_turn_keeps_what_was_found():
    def limited(text):
        if depth_of(text) == 2:
            raise ContextTooLong.of("reward model", 600, 0, 512)
        return depth_of(text)

    tree, _ = run(deeper, limited, 5)
    assert best_answer(tree) == best_answer(run(deeper, depth_of, 1)[0])
    assert [level.num_unscored for level in tree.levels] == [0, 4]
    assert closing_critique(tree) is None  # nobody knows that they were no better


def test_search_goes_on_with_the_refinements_that_can_be_judged():
    def half(text):
        if text.endswith(".0") and depth_of(text):
            raise TreeFault("the reward model returned nan")
        return depth_of(text)

    tree, _ = run(deeper, half, 3)
    assert [level.num_unscored for level in tree.levels] == [2, 2, 2]
    assert [len(c.refinements) for level in tree.levels for c in level.critiques] == [1] * 6
    assert depth_of(best_answer(tree).text) == 3


def test_search_whose_first_answer_cannot_be_judged_is_the_trees_fault():
    def never(text):
        raise TreeFault("the reward model returned nan")

    with pytest.raises(TreeFault, match="returned nan"):
        run(deeper, never)


def test_query_that_cannot_be_answered_is_the_trees_fault():
    with pytest.raises(TreeFault, match="gave an empty answer, 5 times"):
        run(lambda conversation, number, sample: "", depth_of)


def test_other_faults_in_a_later_turn_are_not_swallowed():
    with pytest.raises(RuntimeError, match="engine died"):
        run(faulty_at(1, "CRITIQUE?", RuntimeError("engine died")), depth_of)


def test_best_of_a_level_is_its_top_reward_and_the_earliest_wins_a_tie():
    steady = critique("steady", response("a", 2.0), response("b", 2.5))
    lucky = critique("lucky", response("c", -9.0), response("d", 3.0), response("e", 3.0))
    tree = searched(response("first", 0.0), (critique("none"), steady, lucky))
    assert [n.text for n in best_of(tree.levels[0])] == ["lucky", "d"]
    unscored = searched(response("first", 0.0), (critique("c", response("a")),))
    with pytest.raises(ValueError, match="id-a has no reward yet"):
        best_of(unscored.levels[0])


def test_closing_critique_has_the_highest_rating_of_the_level_that_failed():
    def rated(text, rating, *refinements):
        return replace(critique(text, *refinements), rating=rating)

    first = response("first", 1.0)
    improving = (rated("start", 10, response("better", 2.0)),)
    failing = (rated("low", 3, response("a", 1.5)), rated("high", 9, response("b", 0.0)))
    tied = (*failing, rated("also high", 9, response("c", 2.0)))
    assert closing_critique(searched(first, improving, failing)).text == "high"
    assert closing_critique(searched(first, improving, tied)).text == "high"
    assert closing_critique(searched(first, failing[::-1][:1])).text == "high"
    assert closing_critique(searched(first, improving)) is None
    assert closing_critique(searched(first, ())) is None
    assert closing_critique(searched(first)) is None


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=20),
    st.sets(st.integers(1, 12)),
    st.builds(Shape, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2)),
    st.integers(1, 4),
)
def test_whatever_the_rewards_the_search_climbs_to_the_best_answer(rewards, bad, shape, max_depth):
    def script(conversation, number, sample):
        text = deeper(conversation, number, sample)
        if number in bad and sample % 2 == 0:
            return ""
        return text.replace("[[7]]", f"[[{1 + crc32(text.encode()) % 10}]]")

    def reward(text):
        return rewards[crc32(text.encode()) % len(rewards)]

    tree, _ = run(script, reward, max_depth, shape)
    assert run(script, reward, max_depth, shape)[0] == tree
    turns = improving_turns(tree)
    climbed = [reward_of(r) for r in (tree.first, *(refinement for _, refinement in turns))]
    assert all(before < after for before, after in pairwise(climbed))
    assert reward_of(best_answer(tree)) == max(map(reward_of, tree.responses())) == climbed[-1]
    path = [tree.first.id, *(refinement.id for _, refinement in turns)]
    assert [level.of for level in tree.levels] == path[: len(tree.levels)]
    improved = [has_improved(tree, level) for level in tree.levels]
    assert all(improved[:-1]) and len(turns) == sum(improved)
    assert len(tree.levels) == max_depth or not improved[-1]
    last, closing = tree.levels[-1], closing_critique(tree)
    assert (closing is None) == (improved[-1] or not last.critiques)
    assert closing is None or closing.rating == max(c.rating for c in last.critiques)
    ids = [r.id for r in tree.responses()] + [c.id for v in tree.levels for c in v.critiques]
    assert len(set(ids)) == len(ids)


def test_every_level_stands_below_the_best_whatever_the_shape_follows():
    def reward(text):
        _, depth, branch = text.split()
        return int(depth) + 4.0 * branch.endswith(".1")

    last, _ = run(deeper, reward, shape=Shape(1, 2, follow="last"))
    best, _ = run(deeper, reward, shape=Shape(1, 2))
    assert last == best
    assert len(best.levels) > 1
