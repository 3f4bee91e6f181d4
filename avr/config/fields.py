"""Fields of configurations and steps: bounds of their values, and how they decide results.

Every field decides the result of a step that holds it, as it stands, unless it says otherwise here.
"""

from dataclasses import field
from typing import Any

MAX_SEED = 2**64 - 1
# Metadata of fields that have no default: what they stand for (see `avr.run.decided`).
WEIGHTS = {"decides_by": "weights"}
SPEED_ONLY = {"decides_by": "nothing"}


def at_least(least: float, default: Any, *, speed: bool = False) -> Any:
    """A field whose value must not be below `least`; None, where the type has it, is fine.

    `speed`: see `speed_only`.
    """
    metadata = {"least": least} | ({"decides_by": "nothing"} if speed else {})
    return field(default=default, metadata=metadata)


def decides_by(what: str, **default: Any) -> Any:
    """A field that counts by what it stands for: a form that `avr.run.decided` knows.

    `default` is dataclasses.field's `default` or `default_factory`.
    """
    return field(**default, metadata={"decides_by": what})


def speed_only(**default: Any) -> Any:
    """A field that decides how fast a result is there, or whether it comes, and not what it is."""
    return decides_by("nothing", **default)


def seed_field() -> Any:
    """A field for the seed of a run: 0 to `MAX_SEED`."""
    return field(default=0, metadata={"least": 0, "most": MAX_SEED})
