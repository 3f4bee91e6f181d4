"""Configure the health check that a growth's first trees pass before the rest is grown."""

from dataclasses import dataclass
from enum import Enum

from avr.config.fields import at_least


class OnFailure(Enum):
    """Name the reactions of a growth to a failed health check: stop, or go on and warn."""

    stop = "stop"
    warn = "warn"


@dataclass
class HealthConfig:
    """Configure the checks of the first `num_trees` trees in prompt order (`avr.core.health`).

    The other numbers are the largest share of bad items, 0 to 1, that each check lets pass; 1 turns
    a check off. A check that counts fewer items than half of `num_trees` says nothing.
    """

    num_trees: int = at_least(1, 8)
    on_failure: OnFailure = OnFailure.stop
    barren: float = at_least(0, 0.5)
    malformed: float = at_least(0, 0.5)
    copied: float = at_least(0, 0.5)
    alike: float = at_least(0, 0.5)
    no_answer: float = at_least(0, 0.5)
    same_rating: float = at_least(0, 0.95)
    gives_away: float = at_least(0, 0.3)
    unchanged: float = at_least(0, 0.5)
    twins: float = at_least(0, 0.5)
    cut_off: float = at_least(0, 0.5)
    lost_form: float = at_least(0, 0.5)
