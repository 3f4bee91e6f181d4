"""Estimate means and paired differences over prompts, with bootstrap intervals (ours)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hold a mean with its 95% interval (percentile bootstrap over prompts, fixed seed)."""

    mean: float
    low: float
    high: float


def mean_of(values: Sequence[float]) -> Estimate:
    """Estimate the mean over prompts. Raises ValueError where there are none."""
    if not values:
        raise ValueError("no prompts to take a mean over")
    generator = random.Random(0)
    size = len(values)
    means = sorted(fmean(generator.choices(values, k=size)) for _ in range(NUM_RESAMPLES))
    cut = round(0.025 * NUM_RESAMPLES)
    return Estimate(fmean(values), means[cut], means[-1 - cut])


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Estimate the mean of ours - theirs on the same prompts, in the same order."""
    return mean_of([a - b for a, b in zip(ours, theirs, strict=True)])
