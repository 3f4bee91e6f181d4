"""Compute AlpacaEval 2's numbers: win rate and length-controlled win rate of preferences.

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
    """Signal rows that are not all of AlpacaEval's instructions in their order."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """Hold a win rate with its standard error, in percent; wins are preferences above 1.5.

    A single preference has no standard error.
    """

    win_rate: float
    standard_error: float | None
    num_wins: int
    num_losses: int
    num_draws: int


def win_rate(preferences: Sequence[float]) -> WinRate:
    """Average p - 1 over the preferences p, in percent.

    Raises ValueError where there are none, and for a preference outside [1, 2].
    """
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
    """Raise AlignmentError unless these are all of AlpacaEval's instructions, in their order.

    AlpacaEval's length control looks up the difficulty of an instruction by the position of its
    row. One missing row would shift all rows after it, and the number would be wrong without a
    warning. So the row of an output that could not be made is not left out: it is an empty text,
    which loses.
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
    """Hold the weights of AlpacaEval's model: length `theta`, difficulty `psi`, skill `phi`."""

    theta: float
    psi: float
    phi: float


def predict_lc(weights: Weights, difficulties: Sequence[float]) -> float:
    """Compute `length_controlled_v1` from fitted weights.

    It is the win rate that all outputs would have if they had one length. `difficulties` belong to
    AlpacaEval's instructions, in their order. Raises AlignmentError for another number of them.
    """
    if len(difficulties) != NUM_INSTRUCTIONS:
        raise AlignmentError(
            f"{len(difficulties)} difficulties, AlpacaEval has {NUM_INSTRUCTIONS} instructions"
        )
    return 100 * fmean(_sigmoid(weights.psi * d + weights.phi) for d in difficulties)


@dataclass(frozen=True, slots=True)
class LcNoreg:
    """Hold `lc_noreg` in percent, its 95% interval, and the fitted weights."""

    lc_noreg: float
    low: float
    high: float
    theta: float
    phi: float


def length_of(text: str) -> int:
    """Count the characters of a text; a text of white space alone has 0."""
    return len(text) if text.strip() else 0


def lc_noreg(
    preferences: Sequence[float],
    lengths: Sequence[int],
    baseline_lengths: Sequence[int],
    clusters: Sequence[str] | None = None,
) -> LcNoreg:
    """Compute a length-controlled win rate for any prompts; lengths are in characters.

    logit P(win) = theta tanh(d / sd(d)) + phi, where d is the baseline's length minus the model's.
    This is AlpacaEval's model without the difficulties, which other prompts do not have, and
    without the anchor rows that regularise it; hence the name. It was up to 5 points away from
    `length_controlled_v1` where lengths are alike, and 14 for a model that is much terser than the
    baseline. Answers of one of `clusters` may depend on each other, such as answers to one prompt;
    by default each answer is a cluster. An output of length 0 did not lose by its length: such rows
    keep their outcome, the fit is over the other rows, and the rate is over all rows. Raises
    SeparationError where lengths alone tell wins from losses, and where all outputs won or all
    lost.
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
    # The interval joins two errors: that of the fitted chance, for the share of rows in the fit,
    # and that of sampling rows, which have this chance or their own outcome.
    number = _standard_error(all_of_them, clusters)
    down, up = (math.hypot(share * side, Z * number) for side in (chance - low, high - chance))
    phi, theta = fit.coefficients
    bounds = (100 * max(rate - down, 0.0), 100 * min(rate + up, 1.0))
    return LcNoreg(100 * rate, *bounds, float(theta), float(phi))


def _standard_error(values: Floats, clusters: Sequence[str] | None) -> float:
    """Compute the standard error of the mean; values of one cluster count as one draw."""
    names = map(str, range(len(values))) if clusters is None else clusters
    sums: dict[str, float] = defaultdict(float)
    for name, value in zip(names, values - values.mean(), strict=True):
        sums[name] += value
    return math.sqrt(sum(s * s for s in sums.values())) / len(values)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
