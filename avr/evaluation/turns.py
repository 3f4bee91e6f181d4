"""Follow searches turn by turn: were the answers better that the reward model preferred?"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from avr.core.search import improving_turns
from avr.core.tree import RefinementTree, reward_of
from avr.evaluation.judged import Oracle


@dataclass(frozen=True, slots=True)
class Turn:
    """Hold all searches after turn `number` (0: y0); an ended one counts with its last answer.

    `num_taken` of them took a refinement in this turn. `reward_gain` is their mean gain in reward,
    `quality_gain` their mean gain by the oracle (None without one). `num_worse` of them got worse
    by the oracle: there the reward model was fooled.
    """

    number: int
    reward: float
    quality: float | None
    num_taken: int
    reward_gain: float | None
    quality_gain: float | None
    num_worse: int | None


def turns_of(trees: Sequence[RefinementTree], oracle: Oracle | None) -> list[Turn]:
    """Summarise searches turn by turn, up to the last turn in which any search improved.

    Every gain counts, as in the search; training rows may need a larger one (`min_gain`). Raises
    ValueError without trees.
    """
    if not trees:
        raise ValueError("no searched trees")
    paths = [_path(tree, oracle) for tree in trees]
    turns = []
    for number in range(max(map(len, paths))):
        there = [path[min(number, len(path) - 1)] for path in paths]
        taken = [path[number - 1 : number + 1] for path in paths if 0 < number < len(path)]
        gains = [(after[0] - before[0], after[1] - before[1]) for before, after in taken]
        judged = oracle is not None
        turns.append(
            Turn(
                number=number,
                reward=fmean(reward for reward, _ in there),
                quality=fmean(quality for _, quality in there) if judged else None,
                num_taken=len(taken),
                reward_gain=fmean(reward for reward, _ in gains) if gains else None,
                quality_gain=fmean(quality for _, quality in gains) if gains and judged else None,
                num_worse=sum(quality < 0 for _, quality in gains) if judged else None,
            )
        )
    return turns


def _path(tree: RefinementTree, oracle: Oracle | None) -> list[tuple[float, float]]:
    """List (reward, quality) of y0 and each refinement taken; without an oracle quality is 0."""
    query = tree.prompt.query[-1].content
    answers = [tree.first, *(response for _, response in improving_turns(tree))]
    return [(reward_of(a), oracle(query, a.text) if oracle else 0.0) for a in answers]
