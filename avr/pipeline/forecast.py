"""What a run will take, scaled up from a small one that was made with the same recipe. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from avr.config import ConfigError
from avr.storage import Location, size_of

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Forecast:
    """One step: generated tokens, device-hours and GiB on disk for so many prompts.

    None where the small run did not do the step or does not say.
    """

    step: str
    prompts: int
    tokens: float | None
    device_hours: float | None
    gib: float | None


def forecast(steps: Mapping[str, tuple[str, int]], probe: Location) -> Iterator[Forecast]:
    """`steps`: for each, the step that reads its prompts and how many there will be.

    `probe` is the run directory of the small run. All grows with the number of prompts, engine
    starts too, which in truth do not: the smaller the probe, the more too much. Raises ConfigError
    where the directory holds no summary.
    """
    file = probe / "summary.json"
    if not file.is_file():
        raise ConfigError(f"no run that has come to its summary in {probe}")
    summary = json.loads(file.read_text())
    spent = probe / "device_hours.json"
    hours = json.loads(spent.read_text()) if spent.is_file() else {}
    for step, (source, prompts) in steps.items():
        if step not in summary or source not in summary:
            yield Forecast(step, prompts, None, None, None)
            continue
        scale = prompts / summary[source]["input"]["num_prompts"]
        counted = summary[step].get("trees") or summary[step].get("outputs") or {}
        yield Forecast(
            step,
            prompts,
            tokens=_scaled(counted.get("tokens"), scale),
            device_hours=_scaled(hours.get(step), scale),
            gib=_scaled((size_of(probe / step) + size_of(probe / f"{step}.training")) / GIB, scale),
        )


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
