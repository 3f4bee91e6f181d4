"""Read the results of health checks on first trees."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from avr.storage import Location

FILE = "health.json"


def health_of(step: Location) -> dict[str, Any] | None:
    """Read the result of a step's health check; None where there is none."""
    file = step / FILE
    return json.loads(file.read_text()) if file.exists() else None


def health_of_all(folder: Location, steps: Sequence[str]) -> dict[str, Any]:
    """Read the results of all steps that have one, for a run's summary, without ids of trees."""
    found = {step: health_of(folder / step) for step in steps}
    return {
        step: {name: value for name, value in health.items() if name != "trees"}
        for step, health in found.items()
        if health is not None
    }


def health_words(found: Mapping[str, Any] | None) -> str:
    """Describe a result in a few words."""
    if found is None:
        return "-"
    shares = {check["name"]: check["share"] for check in found["checks"]}
    return ", ".join(f"{name} {shares[name]:.0%}" for name in found["failed"]) or "well"
