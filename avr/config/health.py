"""Settings of the health check that a growth's first trees pass before the rest is grown."""

from dataclasses import dataclass, field
from enum import Enum


class OnFailure(Enum):
    """The reaction of a growth to a failed health check: stop, or go on and warn."""

    stop = "stop"
    warn = "warn"


def _share(default: float) -> float:
    return field(default=default, metadata={"least": 0})


@dataclass
class HealthConfig:
    """The checks of the first `num_trees` trees, in the order of the prompts (`avr.core.health`).

    The other numbers are the largest share of bad items, 0 to 1, that each check lets pass; 1 turns
    a check off. A check that counts fewer than `num_trees` items says nothing.
    """

    num_trees: int = field(default=8, metadata={"least": 1})
    on_failure: OnFailure = OnFailure.stop
    barren: float = _share(0.5)
    malformed: float = _share(0.5)
    copied: float = _share(0.5)
    alike: float = _share(0.5)
    no_answer: float = _share(0.5)
    lost_form: float = _share(0.5)
