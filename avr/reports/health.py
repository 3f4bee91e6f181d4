"""Read what the health checks of first trees have found."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from avr.storage import Location

FILE = "health.json"


def health_of(step: Location) -> dict[str, Any] | None:
    """Read what a step's health check has found; None where it has not been judged."""
    file = step / FILE
    return json.loads(file.read_text()) if file.exists() else None


def health_of_all(folder: Location, steps: Sequence[str]) -> dict[str, Any]:
    """Read it of each step that has one, for a run's summary; ids of trees are left out."""
    found = {step: health_of(folder / step) for step in steps}
    return {
        step: {name: value for name, value in health.items() if name != "trees"}
        for step, health in found.items()
        if health is not None
    }


def health_words(found: Mapping[str, Any] | None) -> str:
    """Say in a few words what was found."""
    if found is None:
        return "-"
    shares = {check["name"]: check["share"] for check in found["checks"]}
    return ", ".join(f"{name} {shares[name]:.0%}" for name in found["failed"]) or "well"
