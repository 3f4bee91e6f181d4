"""Fields of configurations whose values have bounds."""

from dataclasses import field
from typing import Any


def at_least(least: float, default: Any) -> Any:
    """A field whose value must not be below `least`; None, where the type has it, is fine."""
    return field(default=default, metadata={"least": least})


MAX_SEED = 2**64 - 1


def seed_field() -> Any:
    """A field for the seed of a run: 0 to `MAX_SEED`."""
    return field(default=0, metadata={"least": 0, "most": MAX_SEED})
