"""Search greedily (method, Stage II.1): correct and score the best answer while it gets better."""

from dataclasses import replace
from itertools import takewhile
from typing import Literal

from avr.core.growth import Shape, correct, respond, score
from avr.core.prompts import Templates
from avr.core.reward import Rewarding
from avr.core.roles import ContextTooLong, Generate
from avr.core.tree import Critique, Level, RefinementTree, Response, reward_of

Closing = Literal["best_refinement", "highest_rating"]


async def search(
    tree: RefinementTree,
    policy: Generate,
    rewarding: Rewarding,
    templates: Templates,
    shape: Shape,
    max_depth: int,
) -> RefinementTree:
    """Grow the tree of one query: y0, then up to `max_depth` levels below the best answer so far.

    Ends at the first level in which no refinement has a strictly higher reward (released). The
    policy is its own corrector. With `max_depth` 1 this grows the tree of Stage I. Raises
    TreeFault where the query cannot be answered or y0 cannot be criticised at all.
    """
    shape = replace(shape, follow="best")
    tree = await score(await respond(tree, policy, templates, shape.max_tries), rewarding)
    while len(tree.levels) < max_depth and (not tree.levels or has_improved(tree, tree.levels[-1])):
        try:
            deeper = await score(await correct(tree, policy, templates, shape), rewarding)
        except ContextTooLong:
            if not tree.levels:
                raise
            break  # what was found so far stands; only the closing critique is missing
        if deeper == tree:
            break  # the answer is right, and is not among those criticised all the same
        tree = deeper
    return tree


def best_of(level: Level) -> tuple[Critique, Response] | None:
    """Find the level's refinement with the highest reward, and its critique; None without one.

    The earliest wins a tie.
    """
    refined = [(c, r) for c in level.critiques for r in c.refinements]
    return max(refined, key=lambda pair: reward_of(pair[1]), default=None)


def has_improved(tree: RefinementTree, level: Level, min_gain: float = 0.0) -> bool:
    """Tell whether a refinement of the level beats the answer it refines by over `min_gain`."""
    best = best_of(level)
    of = next(r for r in tree.responses() if r.id == level.of)
    return best is not None and reward_of(best[1]) - reward_of(of) > min_gain


def improving_turns(
    tree: RefinementTree, min_gain: float = 0.0
) -> tuple[tuple[Critique, Response], ...]:
    """List (best critique, best refinement) of each level, up to the first that did not improve.

    With `min_gain` 0 the list holds all turns that the search took for better (released). A larger
    one reads the search as if it had demanded a larger gain (ours): a small gain is often the
    reward model's noise or its preference for length.
    """
    levels = takewhile(lambda level: has_improved(tree, level, min_gain), tree.levels)
    turns = map(best_of, levels)
    return tuple(turn for turn in turns if turn is not None)


def best_answer(tree: RefinementTree, min_gain: float = 0.0) -> Response:
    """Return the answer that the search ended with: the last improving refinement, or y0."""
    turns = improving_turns(tree, min_gain)
    return turns[-1][1] if turns else tree.first


def closing_critique(
    tree: RefinementTree, min_gain: float = 0.0, closing: Closing = "highest_rating"
) -> Critique | None:
    """Find the critique of the best answer that ends a trajectory; None if every level improved.

    It comes from the first level that failed to improve the answer. `highest_rating` (ours) takes
    the critique with the highest rating, as a model should say this before it stops; the earliest
    wins a tie. `best_refinement` (released) takes the critique with the best refinement, as does
    any choice where nobody asked for ratings. Where the level has no refinement, the released code
    drops the search; here the highest rating closes it. If the reward model failed on all its
    refinements the level closes nothing: they may have been better.
    """
    failed = tree.levels[len(improving_turns(tree, min_gain)) :]
    if not failed or (failed[0].num_unscored and best_of(failed[0]) is None):
        return None
    best = best_of(failed[0])
    rated = any(critique.rating is not None for critique in failed[0].critiques)
    if best is not None and (closing == "best_refinement" or not rated):
        return best[0]
    return max(failed[0].critiques, key=lambda critique: critique.rating or 0, default=None)
