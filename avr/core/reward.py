"""Combine the verdicts of one or several judges into one reward."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Literal

from avr.core.messages import Conversation
from avr.core.prompts import scored_conversation
from avr.core.roles import Score
from avr.core.tree import Prompt, Verdict

How = Literal["mean", "minimum", "mean_minus_deviations"]


@dataclass(frozen=True, slots=True)
class Combination:
    """Say how the verdicts of `members` become one reward; of a single member it is its own.

    `mean_minus_deviations` takes off `deviations` standard deviations of the members (of the
    population): answers that they disagree about count for less (ours; Coste et al. 2023 use the
    variance). Raises ValueError without members, or where two have one name.
    """

    members: tuple[str, ...]
    how: How = "mean"
    deviations: float = 1.0

    def __post_init__(self) -> None:
        if not self.members or len(set(self.members)) < len(self.members):
            raise ValueError(f"members of a reward must be there, each once: {self.members}")

    def reward(self, verdicts: Sequence[Verdict]) -> float | None:
        """Return the reward, or None where the verdict of a member is missing."""
        given = {verdict.by: verdict.reward for verdict in verdicts}
        if not all(name in given for name in self.members):
            return None
        return self.of(given)

    def of(self, given: Mapping[str, float]) -> float:
        """Combine the rewards of the members, by their names; others play no part."""
        values = [given[name] for name in self.members]
        if len(values) == 1:
            return values[0]
        if self.how == "minimum":
            return min(values)
        spread = self.deviations * pstdev(values) if self.how == "mean_minus_deviations" else 0.0
        return fmean(values) - spread


@dataclass(frozen=True)
class RewardModel:
    """Judge by a Bradley-Terry model: `logit` gives its raw logit of query and answer.

    The model sees them without our system text.
    """

    name: str
    logit: Callable[[Conversation], Awaitable[float]]

    async def score(self, prompt: Prompt, answer: str) -> Verdict:
        """Return the logit; see `avr.core.roles.Score`."""
        return Verdict(self.name, await self.logit(scored_conversation(prompt.query, answer)))


@dataclass(frozen=True)
class Rewarding:
    """Judge answers by `judges`, which are all members of the combination or some of them.

    With some of them an answer has its reward once the others have given their verdicts, too.
    """

    judges: tuple[Score, ...]
    combination: Combination

    @staticmethod
    def by(judge: Score) -> "Rewarding":
        """Make the reward that is one judge's verdict."""
        return Rewarding((judge,), Combination((judge.name,)))

    async def verdicts(
        self, prompt: Prompt, answer: str, given: tuple[Verdict, ...] = ()
    ) -> tuple[Verdict, ...]:
        """Return the verdicts `given` and those of the judges that have given none yet."""
        there = {verdict.by for verdict in given}
        waiting = [judge for judge in self.judges if judge.name not in there]
        more = await asyncio.gather(*(judge.score(prompt, answer) for judge in waiting))
        return (*given, *more)

    async def reward(self, prompt: Prompt, answer: str) -> tuple[float, tuple[Verdict, ...]]:
        """Return the reward and the verdicts behind it; all members must be among the judges."""
        verdicts = await self.verdicts(prompt, answer)
        reward = self.combination.reward(verdicts)
        assert reward is not None  # every member was asked
        return reward, verdicts

    def waits_for(self, given: Sequence[Verdict]) -> bool:
        """Say whether one of the judges has given no verdict yet."""
        there = {verdict.by for verdict in given}
        return any(judge.name not in there for judge in self.judges)
