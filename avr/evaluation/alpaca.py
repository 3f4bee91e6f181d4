"""AlpacaEval 2's numbers: win rate and length-controlled win rate of preferences.

A preference lies in [1, 2]: 1 where the baseline's output is better, 2 where the model's is. Rates
are in percent. Source: AlpacaEval's published annotations and weights, which these reproduce.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from avr.core.messages import content_id
from avr.evaluation.logistic import Floats, SeparationError, Z, fit_logistic

NUM_INSTRUCTIONS = 805


class AlignmentError(ValueError):
    """Outputs that are not AlpacaEval's instructions, all of them, in their order."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """`win_rate` with its `standard_error`, in percent; wins are preferences above 1.5.

    One preference has no standard error.
    """

    win_rate: float
    standard_error: float | None
    num_wins: int
    num_losses: int
    num_draws: int


def win_rate(preferences: Sequence[float]) -> WinRate:
    """The mean of p - 1 over prompts. Raises ValueError where there are none, or outside [1, 2]."""
    if not preferences:
        raise ValueError("no preferences to take a mean over")
    several = len(preferences) > 1
    for row, preference in enumerate(preferences):
        if not 1 <= preference <= 2:
            raise ValueError(f"preference {preference} of row {row} is not in [1, 2]")
    return WinRate(
        win_rate=100 * fmean(p - 1 for p in preferences),
        standard_error=100 * stdev(preferences) / math.sqrt(len(preferences)) if several else None,
        num_wins=sum(p > 1.5 for p in preferences),
        num_losses=sum(p < 1.5 for p in preferences),
        num_draws=sum(p == 1.5 for p in preferences),
    )


def check_aligned(instructions: Sequence[str]) -> None:
    """Raise AlignmentError unless these are AlpacaEval's instructions, all of them, in their order.

    Its length control looks the difficulty of an instruction up by the position of its row: one
    row that is missing shifts all that follow, and the number is wrong without a word. An output
    that could not be made is an empty text, which loses, never a row left out.
    """
    canonical = (Path(__file__).parent / "alpaca_eval_rows.txt").read_text().split()
    for row, (text, digest) in enumerate(zip(instructions, canonical, strict=False)):
        if content_id(text)[:8] != digest:
            raise AlignmentError(
                f"row {row}, {text[:60]!r}, is not AlpacaEval's instruction at that place: outputs"
                " must be in the order of its instructions, an empty one where there is none"
            )
    if len(instructions) != len(canonical):
        raise AlignmentError(
            f"{len(instructions)} rows, AlpacaEval has {len(canonical)} instructions: an output"
            " that could not be made is an empty text, not a row left out"
        )


@dataclass(frozen=True, slots=True)
class Weights:
    """Of AlpacaEval's model of length (`theta`), difficulty (`psi`) and skill (`phi`)."""

    theta: float
    psi: float
    phi: float


def predict_lc(weights: Weights, difficulties: Sequence[float]) -> float:
    """`length_controlled_v1` from fitted weights: the win rate were all outputs of one length.

    `difficulties` are those of AlpacaEval's instructions, in their order. Raises AlignmentError
    where they are not as many.
    """
    if len(difficulties) != NUM_INSTRUCTIONS:
        raise AlignmentError(
            f"{len(difficulties)} difficulties, AlpacaEval has {NUM_INSTRUCTIONS} instructions"
        )
    return 100 * fmean(_sigmoid(weights.psi * d + weights.phi) for d in difficulties)


@dataclass(frozen=True, slots=True)
class LcNoreg:
    """`lc_noreg` in percent, its 95% interval, and the fitted weights."""

    lc_noreg: float
    low: float
    high: float
    theta: float
    phi: float


def length_of(text: str) -> int:
    """Characters, none where nothing was said."""
    return len(text) if text.strip() else 0


def lc_noreg(
    preferences: Sequence[float],
    lengths: Sequence[int],
    baseline_lengths: Sequence[int],
    clusters: Sequence[str] | None = None,
) -> LcNoreg:
    """A length-controlled win rate for any prompts; lengths are in characters.

    logit P(win) = theta tanh(d / sd(d)) + phi, d the baseline's length less the model's. This is
    the model of AlpacaEval's without the difficulties, which other prompts do not have, and
    without the anchor rows that regularise it, hence the name: it was up to 5 points away from
    `length_controlled_v1` where lengths are alike, and 14 for a model that is much terser than the
    baseline. Answers of one of `clusters` (by default each is its own) may depend on each other:
    those to one prompt, say. An output of no length did not lose by its length: such rows keep
    their outcome, the model is that of the others, and the rate is of all. Raises SeparationError
    where lengths alone tell wins from losses, or all outputs won, or lost.
    """
    wins, ours, theirs = np.array(preferences) - 1, np.array(lengths), np.array(baseline_lengths)
    said = (ours > 0) & (theirs > 0)
    if not said.any():
        raise SeparationError("there are no two outputs whose lengths could be compared")
    differences = (theirs - ours)[said].astype(float)
    spread = differences.std(ddof=1) if len(differences) > 1 else 0.0  # as AlpacaEval's
    scaled = np.tanh(differences / spread) if spread else differences * 0
    features = np.stack([np.ones(len(differences)), scaled], axis=1)
    groups = None if clusters is None else np.array(clusters)[said]
    fit = fit_logistic(features, wins[said], clusters=groups)
    chance, low, high = fit.chance_at_zero()
    all_of_them = np.where(said, chance, wins)
    rate, share = float(all_of_them.mean()), float(said.mean())
    # What is between the samples: the chance of those that said something, and how many did.
    number = _standard_error(all_of_them, clusters)
    down, up = (math.hypot(share * side, Z * number) for side in (chance - low, high - chance))
    phi, theta = fit.coefficients
    bounds = (100 * max(rate - down, 0.0), 100 * min(rate + up, 1.0))
    return LcNoreg(100 * rate, *bounds, float(theta), float(phi))


def _standard_error(values: Floats, clusters: Sequence[str] | None) -> float:
    """Of the mean; values of one cluster count as one draw."""
    names = map(str, range(len(values))) if clusters is None else clusters
    sums: dict[str, float] = defaultdict(float)
    for name, value in zip(names, values - values.mean(), strict=True):
        sums[name] += value
    return math.sqrt(sum(s * s for s in sums.values())) / len(values)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
