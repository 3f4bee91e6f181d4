"""Knobs of the check that a growth's first trees pass before the rest is paid for."""

from dataclasses import dataclass, field
from enum import Enum


class OnFailure(Enum):
    """Whether a growth that fails its health check stops, or goes on and says so."""

    stop = "stop"
    warn = "warn"


def _share(default: float) -> float:
    return field(default=default, metadata={"least": 0})


@dataclass
class HealthConfig:
    """Checks of the first `num_trees` trees, in the order of the prompts (`avr.core.health`).

    The other numbers are the largest share, 0 to 1, that each check lets pass; 1 turns it off. A
    check that counts fewer things than half of `num_trees` says nothing.
    """

    num_trees: int = field(default=8, metadata={"least": 1})
    on_failure: OnFailure = OnFailure.stop
    barren: float = _share(0.5)
    malformed: float = _share(0.5)
    copied: float = _share(0.5)
    alike: float = _share(0.5)
    no_answer: float = _share(0.5)
    lost_form: float = _share(0.5)
