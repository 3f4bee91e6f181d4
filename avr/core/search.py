"""Greedy search (method, Stage II.1): correct and score the best answer while it gets better."""

from dataclasses import replace

from avr.core.growth import Shape, correct, respond, score
from avr.core.prompts import Templates
from avr.core.roles import ContextTooLong, Generate, Score
from avr.core.tree import Critique, Level, RefinementTree, Response, reward_of


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


def has_improved(tree: RefinementTree, level: Level) -> bool:
    """Whether a refinement of the level is strictly better than the answer it refines."""
    best = best_of(level)
    of = next(r for r in tree.responses() if r.id == level.of)
    return best is not None and reward_of(best[1]) > reward_of(of)


def improving_turns(tree: RefinementTree) -> tuple[tuple[Critique, Response], ...]:
    """(best critique, best refinement) of each level that improved, in order."""
    turns = [best_of(level) for level in tree.levels if has_improved(tree, level)]
    return tuple(turn for turn in turns if turn is not None)


def best_answer(tree: RefinementTree) -> Response:
    """Where the search ended: the last improving refinement, or y0."""
    turns = improving_turns(tree)
    return turns[-1][1] if turns else tree.first


def closing_critique(tree: RefinementTree) -> Critique | None:
    """A critique of the best answer, from the level that failed to improve it.

    Of several the one with the highest rating: it is what a model should say before it stops
    (ours; the method does not say which). None where the search was still improving at its end.
    """
    if not tree.levels or has_improved(tree, tree.levels[-1]):
        return None
    return max(tree.levels[-1].critiques, key=lambda critique: critique.rating, default=None)
