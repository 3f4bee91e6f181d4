"""Greedy search (method, Stage II.1): correct and score the best answer while it gets better."""

from dataclasses import replace
from itertools import takewhile
from typing import Literal

from avr.core.growth import Shape, correct, respond, score
from avr.core.prompts import Templates
from avr.core.roles import ContextTooLong, Generate, Score
from avr.core.tree import Critique, Level, RefinementTree, Response, reward_of

Closing = Literal["best_refinement", "highest_rating"]


async def search(
    tree: RefinementTree,
    policy: Generate,
    reward_model: Score,
    templates: Templates,
    shape: Shape,
    max_depth: int,
) -> RefinementTree:
    """The tree of one query: y0, then up to `max_depth` levels, each below the best answer so far.

    Ends at the first level in which no refinement has a strictly higher reward (released). The
    policy is its own corrector. With `max_depth` 1 this is what Stage I grows. Raises TreeFault
    where the query cannot be answered or y0 not be criticised at all.
    """
    shape = replace(shape, follow="best")
    tree = await score(await respond(tree, policy, templates, shape.max_tries), reward_model)
    while len(tree.levels) < max_depth and (not tree.levels or has_improved(tree, tree.levels[-1])):
        try:
            deeper = await score(await correct(tree, policy, templates, shape), reward_model)
        except ContextTooLong:
            if not tree.levels:
                raise
            break  # what was found so far stands; only the closing critique is missing
        tree = deeper
    return tree


def best_of(level: Level) -> tuple[Critique, Response] | None:
    """The critique and refinement with the level's highest reward; the earliest wins a tie."""
    refined = [(c, r) for c in level.critiques for r in c.refinements]
    return max(refined, key=lambda pair: reward_of(pair[1]), default=None)


def has_improved(tree: RefinementTree, level: Level, min_gain: float = 0.0) -> bool:
    """Whether a refinement of the level beats the answer it refines by more than `min_gain`."""
    best = best_of(level)
    of = next(r for r in tree.responses() if r.id == level.of)
    return best is not None and reward_of(best[1]) - reward_of(of) > min_gain


def improving_turns(
    tree: RefinementTree, min_gain: float = 0.0
) -> tuple[tuple[Critique, Response], ...]:
    """(best critique, best refinement) of each level, up to the first that did not improve.

    With `min_gain` 0 that is all that the search took for better (released). A larger one reads
    the search as if it had asked for more (ours): a small gain is often the reward model's noise
    or its liking for length.
    """
    levels = takewhile(lambda level: has_improved(tree, level, min_gain), tree.levels)
    turns = map(best_of, levels)
    return tuple(turn for turn in turns if turn is not None)


def best_answer(tree: RefinementTree, min_gain: float = 0.0) -> Response:
    """Where the search ended: the last improving refinement, or y0."""
    turns = improving_turns(tree, min_gain)
    return turns[-1][1] if turns else tree.first


def closing_critique(
    tree: RefinementTree, min_gain: float = 0.0, closing: Closing = "highest_rating"
) -> Critique | None:
    """Find the critique of the best answer that ends a trajectory; None if every level improved.

    It comes from the first level that failed to improve the answer. `highest_rating` (ours) is what
    a model should say before it stops; the earliest wins a tie. `best_refinement` (released) is the
    critique whose refinement did best there; where the level has no refinement the released code
    drops the search, and the highest rating closes it here. A level whose refinements all got no
    reward closes nothing: nobody knows that they were no better.
    """
    failed = tree.levels[len(improving_turns(tree, min_gain)) :]
    if not failed or (failed[0].num_unscored and best_of(failed[0]) is None):
        return None
    best = best_of(failed[0])
    if closing == "best_refinement" and best is not None:
        return best[0]
    return max(failed[0].critiques, key=lambda critique: critique.rating, default=None)
