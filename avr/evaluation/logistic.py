"""Fit a weighted logistic regression without regularisation: Newton, cluster-robust errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_STEPS = 50
Z = 1.959963984540054  # standard errors on each side of a 95% interval


class SeparationError(ValueError):
    """Signal features that tell wins from losses perfectly: no finite fit is best."""


@dataclass(frozen=True)
class Fit:
    """Hold a fit: its coefficients [k], and the standard error of the first (the constant's)."""

    coefficients: Floats
    error: float

    def chance_at_zero(self) -> tuple[float, float, float]:
        """Compute P(win) where all features but the constant are 0, with its 95% interval."""
        phi = float(self.coefficients[0])
        low, high = phi - Z * self.error, phi + Z * self.error
        chance, least, most = (float(1 / (1 + np.exp(-logit))) for logit in (phi, low, high))
        return chance, least, most


def fit_logistic(
    features: Floats,
    wins: Floats,
    weights: Floats | None = None,
    clusters: NDArray[Any] | None = None,
) -> Fit:
    """Fit features [n, k], the first of them constant, to wins [n] in [0, 1].

    A fractional win counts as that part of a win and the rest of a loss. A feature that is a
    combination of earlier features gets coefficient 0. Rows of one cluster (default: each row is
    its own) may depend on each other; the error is the sandwich estimate over clusters. Raises
    SeparationError.
    """
    rows = np.ones(len(wins)) if weights is None else weights
    used = _independent(features)
    x = features[:, used]
    found = np.zeros(len(used))
    for _ in range(_MOST_STEPS):
        chances = 1 / (1 + np.exp(-np.clip(x @ found, -500, 500)))
        misses = rows * (wins - chances)
        hessian = (x * (rows * chances * (1 - chances))[:, None]).T @ x
        # Almost singular: the chances approach 0 and 1, as they do under separation.
        if np.linalg.cond(hessian) > 1e12:
            break
        step = np.linalg.solve(hessian, x.T @ misses)
        found = found + step
        if np.abs(step).max() < 1e-10:
            coefficients = np.zeros(features.shape[1])
            coefficients[used] = found
            return Fit(coefficients, _error(x * misses[:, None], hessian, clusters))
    raise SeparationError("wins and losses can be told apart by the features alone")


def _independent(features: Floats) -> list[int]:
    """List the columns that are no combination of earlier ones."""
    used: list[int] = []
    for column in range(features.shape[1]):
        if np.linalg.matrix_rank(features[:, [*used, column]]) > len(used):
            used.append(column)
    return used


def _error(scores: Floats, hessian: Floats, clusters: NDArray[Any] | None) -> float:
    """Compute the first coefficient's standard error: H^-1 (sum of s s^T over clusters) H^-1."""
    if clusters is not None:
        _, which = np.unique(clusters, return_inverse=True)
        summed = np.zeros((which.max() + 1, scores.shape[1]))
        np.add.at(summed, which, scores)
        scores = summed
    bread = np.linalg.inv(hessian)
    return float(np.sqrt((bread @ (scores.T @ scores) @ bread)[0, 0]))
