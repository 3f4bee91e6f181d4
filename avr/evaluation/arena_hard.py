"""Compute Arena-Hard v0.1's numbers: models play one baseline twice per prompt, sides swapped."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from avr.evaluation.logistic import Floats, fit_logistic
from avr.evaluation.paired import NUM_RESAMPLES

Rows = NDArray[np.intp]

DECISIVE = 3  # a verdict ">>" counts as this many battles


class Verdict(Enum):
    """Name a judge's verdicts on the answers A and B: much better, better, or equal."""

    A_MUCH_BETTER = "A>>B"
    A_BETTER = "A>B"
    TIE = "A=B"
    B_BETTER = "B>A"
    B_MUCH_BETTER = "B>>A"


@dataclass(frozen=True, slots=True)
class Battle:
    """Hold a verdict about a prompt, seen from the model: `win` 1, 0.5 or 0, `weight` 1 or 3."""

    prompt: str
    win: float
    weight: int


def battle(prompt: str, verdict: Verdict, *, model_is_a: bool) -> Battle:
    """Turn a verdict into a battle, seen from the model."""
    if verdict == Verdict.TIE:
        return Battle(prompt, 0.5, 1)
    decisive = verdict in (Verdict.A_MUCH_BETTER, Verdict.B_MUCH_BETTER)
    a_won = verdict in (Verdict.A_MUCH_BETTER, Verdict.A_BETTER)
    return Battle(prompt, float(a_won == model_is_a), DECISIVE if decisive else 1)


@dataclass(frozen=True, slots=True)
class Score:
    """Hold a win rate in percent with its 95% interval; a prompt's two battles stay together.

    The interval comes from a bootstrap over prompts; for a controlled rate it comes from the
    cluster-robust error of the fit. The published leaderboard resamples battles as if they were
    independent, which gives narrower intervals.
    """

    win_rate: float
    low: float
    high: float
    num_prompts: int


def score(battles: Sequence[Battle]) -> Score:
    """Compute the weighted win rate. With one opponent the Bradley-Terry model gives the same.

    Raises ValueError without battles.
    """
    wins, weights, members = _by_prompt(battles)
    rates = [
        (wins[rows] * weights[rows]).sum() / weights[rows].sum() for rows in _resampled(members)
    ]
    low, high = np.quantile(rates, (0.025, 0.975))
    rate = (wins * weights).sum() / weights.sum()
    return Score(100 * float(rate), 100 * float(low), 100 * float(high), len(members))


@dataclass(frozen=True, slots=True)
class Style:
    """Hold the style of an answer: characters, and Markdown's headers, list items, bold texts."""

    length: int
    headers: int
    lists: int
    bolds: int


def style_of(answer: str) -> Style:
    """Count the Markdown of an answer outside of code blocks; the length is of the whole answer."""
    text = re.sub(r"```.*?(```|\Z)", "", answer, flags=re.DOTALL)
    return Style(
        length=len(answer),
        headers=len(re.findall(r"^#{1,6}\s", text, re.MULTILINE)),
        lists=len(re.findall(r"^\s*(?:[-*+]|\d+\.)\s", text, re.MULTILINE)),
        bolds=len(re.findall(r"\*\*[^*\n]+\*\*|__[^_\n]+__", text)),
    )


def style_controlled(
    battles: Sequence[Battle],
    ours: Mapping[str, Style],
    baseline: Mapping[str, Style],
    features: Sequence[str] = ("length", "headers", "lists", "bolds"),
) -> Score:
    """Compute the win rate as if both sides had one style; `ours` and `baseline` are by prompt.

    logit P(win) = beta z + phi, where z are the differences of the features divided by their sums,
    in standard deviations. The rate is sigmoid(phi). `features=("length",)` controls length alone.
    The published rate fits beta over the battles of all models, this one over the model's own.
    Raises SeparationError where style alone tells wins from losses, and where all battles were won
    or all lost.
    """
    wins, weights, members = _by_prompt(battles)
    differences = np.array(
        [
            [_relative(ours[b.prompt], baseline[b.prompt], name) for name in features]
            for b in battles
        ]
    )
    spreads = differences.std(axis=0)
    scaled = differences / np.where(spreads == 0, 1, spreads)
    design = np.concatenate([np.ones((len(battles), 1)), scaled], axis=1)
    fit = fit_logistic(design, wins, weights, np.array([each.prompt for each in battles]))
    rate, low, high = fit.chance_at_zero()
    return Score(100 * rate, 100 * low, 100 * high, len(members))


def _relative(ours: Style, theirs: Style, name: str) -> float:
    a, b = getattr(ours, name), getattr(theirs, name)
    return (a - b) / (a + b) if a + b else 0.0


def _by_prompt(battles: Sequence[Battle]) -> tuple[Floats, Floats, list[Rows]]:
    """List wins and weights of the battles, and for each prompt the rows of its battles."""
    if not battles:
        raise ValueError("no battles to score")
    members: dict[str, list[int]] = {}
    for row, each in enumerate(battles):
        members.setdefault(each.prompt, []).append(row)
    wins = np.array([each.win for each in battles])
    weights = np.array([float(each.weight) for each in battles])
    return wins, weights, [np.array(rows) for rows in members.values()]


def _resampled(members: list[Rows]) -> Iterator[Rows]:
    """Draw prompts with replacement, NUM_RESAMPLES times; yield the rows of their battles."""
    generator = np.random.default_rng(0)
    for chosen in generator.integers(len(members), size=(NUM_RESAMPLES, len(members))):
        yield np.concatenate([members[prompt] for prompt in chosen])
