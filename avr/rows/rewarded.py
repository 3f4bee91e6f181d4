"""Give the responses of grown trees their rewards again, under another combination of verdicts."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from statistics import fmean

from avr.core.reward import Combination
from avr.core.tree import RefinementTree, Response, reward_of

Trees = Callable[[], Iterable[RefinementTree]]


def rewarded(
    trees: Trees, combination: Combination, *, length_calibrated: bool = False
) -> Iterator[RefinementTree]:
    """Yield the trees with the rewards that `combination` makes of their judges' verdicts.

    Nothing is grown or judged again. With `length_calibrated` what rewards owe to length alone is
    taken off (`length_slope`). `trees` is read once, or twice for the calibration. Trees from
    before there were verdicts keep their rewards.
    """
    slope = (
        length_slope(_combined(tree, combination) for tree in trees()) if length_calibrated else 0.0
    )
    for tree in trees():
        combined = _combined(tree, combination)
        if slope:
            combined = _each(
                combined, lambda r: replace(r, reward=reward_of(r) - slope * len(r.text))
            )
        yield combined


def length_slope(trees: Iterable[RefinementTree]) -> float:
    """Fit how much reward a character is worth between answers to one prompt; 0 where none differ.

    Least squares over all responses, each less the mean of its tree, so that prompts with long
    answers and high rewards do not count. Ours; fitting a reward model's bias after the fact is
    from Huang et al. 2024 (arXiv 2409.17407), who fit a curve.
    """
    both = squares = 0.0
    for tree in trees:
        responses = list(tree.responses())
        length = fmean(len(r.text) for r in responses)
        reward = fmean(map(reward_of, responses))
        both += sum((len(r.text) - length) * (reward_of(r) - reward) for r in responses)
        squares += sum((len(r.text) - length) ** 2 for r in responses)
    return both / squares if squares else 0.0


def _combined(tree: RefinementTree, combination: Combination) -> RefinementTree:
    def again(response: Response) -> Response:
        reward = combination.reward(response.verdicts)
        return response if reward is None else replace(response, reward=reward)

    return _each(tree, again)


def _each(tree: RefinementTree, change: Callable[[Response], Response]) -> RefinementTree:
    """Change every response of a tree."""
    levels = (
        replace(
            level,
            critiques=tuple(
                replace(c, refinements=tuple(map(change, c.refinements))) for c in level.critiques
            ),
        )
        for level in tree.levels
    )
    return replace(tree, response=change(tree.first), levels=tuple(levels))
