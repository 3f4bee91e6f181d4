"""Compare two models' answers by reward and, where the truth is known, by an oracle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import fmean
from typing import Any

from avr.config.errors import ConfigError
from avr.evaluation.paired import Estimate, difference, mean_of

Oracle = Callable[[str, str], float]


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold a final answer to the last user turn `query`, with its reward (a raw logit)."""

    query: str
    text: str
    reward: float


def load_oracle(name: str | None) -> Oracle | None:
    """Load the function behind "module:function"; None for None. Raises ConfigError without one."""
    if name is None:
        return None
    module, _, function = name.partition(":")
    try:
        oracle: Oracle = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"oracle {name!r} is no module:function: {error}") from error
    if not callable(oracle):
        raise ConfigError(f"oracle {name!r} is not a function")
    return oracle


def compare(
    ours: Sequence[Judged], seed: Sequence[Judged], oracle: Oracle | None
) -> dict[str, Any]:
    """Compute means and paired differences as plain data; both sequences are in prompt order.

    `words` is the mean length of our answers. Every estimate is [mean, low, high], 95%.
    """
    row: dict[str, Any] = {
        "num_prompts": len(ours),
        "words": fmean(len(a.text.split()) for a in ours),
        "reward": _compared([a.reward for a in ours], [a.reward for a in seed]),
    }
    if oracle is not None:
        row["oracle"] = _compared(_true(ours, oracle), _true(seed, oracle))
    return row


def _true(answers: Sequence[Judged], oracle: Oracle) -> list[float]:
    return [oracle(answer.query, answer.text) for answer in answers]


def _compared(ours: list[float], seeds: list[float]) -> dict[str, list[float]]:
    return {"mean": _plain(mean_of(ours)), "over_seed": _plain(difference(ours, seeds))}


def _plain(estimate: Estimate) -> list[float]:
    return [estimate.mean, estimate.low, estimate.high]
