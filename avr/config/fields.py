"""Define fields of configurations and steps: bounds of values, and how they decide results.

A field's value, as it stands, decides the result of a step that holds it. The functions here make
the fields that are exceptions.
"""

from dataclasses import field, fields
from typing import Any

MAX_SEED = 2**64 - 1
# Metadata for fields without a default: how they decide results (see `avr.run.decided`).
WEIGHTS = {"decides_by": "weights"}
SPEED_ONLY = {"decides_by": "nothing"}


def at_least(least: float, default: Any, *, speed: bool = False) -> Any:
    """Make a field with a value not below `least`; None is fine where the type allows it.

    `speed`: see `speed_only`.
    """
    metadata = {"least": least} | ({"decides_by": "nothing"} if speed else {})
    return field(default=default, metadata=metadata)


def decides_by(what: str, **default: Any) -> Any:
    """Make a field that decides results by what it stands for, such as a model by its weights.

    `what` names a form that `avr.run.decided` knows. `default` is dataclasses.field's `default` or
    `default_factory`.
    """
    return field(**default, metadata={"decides_by": what})


def speed_only(**default: Any) -> Any:
    """Make a field that decides how fast a result comes, or whether, but not what it is."""
    return decides_by("nothing", **default)


def seed_field() -> Any:
    """Make a field for the seed of a run: 0 to `MAX_SEED`."""
    return field(default=0, metadata={"least": 0, "most": MAX_SEED})


def decisive(owner: Any) -> list[str]:
    """List the fields of a dataclass that decide results: all that are not marked as speed only."""
    return [each.name for each in fields(owner) if each.metadata.get("decides_by") != "nothing"]
