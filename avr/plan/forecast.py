"""Forecast what a run will take: from the shape of its trees, or scaled up from a small run."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from avr.config.errors import ConfigError
from avr.config.roles import is_reward_model
from avr.plan.resources import Pool, StepPlan, devices
from avr.storage import Location, size_of

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Forecast:
    """Hold the forecast for one step: tokens to generate, device-hours and GiB on disk.

    None where the small run did not do the step or does not say.
    """

    step: str
    prompts: int
    tokens: float | None
    device_hours: float | None
    gib: float | None


@dataclass(frozen=True, slots=True)
class Means:
    """Hold means, assumed or measured: tokens of a text, and tokens a second of a replica.

    `of_trees`: they are those of a tree's texts, and say nothing of whole outputs.
    """

    tokens: float | None = None
    tokens_per_second: float | None = None
    of_trees: bool = False


@dataclass(frozen=True, slots=True)
class RoleForecast:
    """Hold the forecast for one role of a step: the most texts it generates.

    A reward model scores so many conversations. `busy` are the device-hours its generation takes.
    `held` are those of all devices of the step for as long as its slowest generating role works,
    which is what a run counts and pays for. None where nothing is known; a reward model generates
    nothing.
    """

    step: str
    role: str
    texts: int
    tokens: float | None
    busy: float | None
    held: float | None


def by_role(
    plan: Iterable[StepPlan], prompts: Mapping[str, int], means: Means
) -> Iterator[RoleForecast]:
    """Forecast the calls of every role of the steps whose number of `prompts` is known.

    Retries are not counted. A search that ends early and a model that answers briefly take less.
    """
    for step in plan:
        if step.step not in prompts:
            continue
        rows = []
        mean = None if step.whole and means.of_trees else means.tokens
        for pool in step.pools:
            if not pool.samples:
                continue
            texts = prompts[step.step] * pool.samples
            tokens = None if is_reward_model(pool.name) else _scaled(mean, texts)
            # As if one replica did all of it.
            hours = None
            if tokens is not None and means.tokens_per_second:
                hours = tokens / means.tokens_per_second / 3600
            rows.append((pool, texts, tokens, hours))
        lasts = max((hours / pool.max_replicas for pool, *_, hours in rows if hours), default=None)
        for pool, texts, tokens, hours in rows:
            busy = None if hours is None else hours * (pool.gpus or 1.0)
            held = busy if not step.together else _scaled(lasts, devices(step))
            yield RoleForecast(step.step, pool.name, texts, tokens, busy, held)


def mean_tokens(probe: Location) -> float | None:
    """Return the tokens per generated text in the growths of a small run; None without any."""
    grown = [part["trees"] for part in _summary(probe).values() if _is_growth(part)]
    texts = sum(trees["trees"] + trees["critiques"] + trees["refinements"] for trees in grown)
    return sum(trees["tokens"] for trees in grown) / texts if texts else None


def _summary(probe: Location) -> dict[str, Any]:
    file = probe / "summary.json"
    if not file.is_file():
        raise ConfigError(f"--probe: {probe} holds no finished run (no summary.json)")
    summary: dict[str, Any] = json.loads(file.read_text())
    return summary


def _is_growth(part: object) -> bool:
    trees = part.get("trees") if isinstance(part, dict) else None
    return isinstance(trees, dict) and {"trees", "critiques", "refinements", "tokens"} <= set(trees)


def forecast(steps: Mapping[str, tuple[str, int]], probe: Location) -> Iterator[Forecast]:
    """Scale a small run up, step by step.

    `steps` maps each step to the step that reads its prompts and to how many there will be. `probe`
    is the run directory of the small run. Time grows with the number of prompts, that of engine
    starts too, though in truth it does not: the smaller the probe, the larger the excess. A trained
    model takes the same room however many rows it was trained on. A run of the other stage says
    nothing, though some of its steps have the same names. Raises ConfigError where the directory
    holds no summary.
    """
    summary = _summary(probe)
    spent = probe / "device_hours.json"
    hours = json.loads(spent.read_text()) if spent.is_file() else {}
    # Both stages have steps of some names: the first one's prompts tell which stage it was.
    other_stage = next((source not in summary for source, _ in steps.values()), False)
    for step, (source, prompts) in steps.items():
        if other_stage or step not in summary or source not in summary:
            yield Forecast(step, prompts, None, None, None)
            continue
        scale = prompts / summary[source]["input"]["num_prompts"]
        counted = summary[step].get("trees") or summary[step].get("outputs") or {}
        yield Forecast(
            step,
            prompts,
            tokens=_scaled(counted.get("tokens"), scale),
            device_hours=_scaled(hours.get(step), scale),
            gib=size_of(probe / step) / GIB * (1.0 if "num_trained" in summary[step] else scale),
        )


def other_models(plan: Iterable[StepPlan], probe: Location) -> list[str]:
    """Name policy, corrector and reward model of the small run where this run has others."""
    file = probe / "config.yaml"
    before: Any = OmegaConf.create(file.read_text()) if file.is_file() else {}
    pools = sorted(
        (pool for step in plan for pool in step.pools), key=lambda pool: not pool.trained
    )
    # Of several pools of a name the last counts: one that RSFT has not trained.
    now = {pool.name: pool for pool in pools}
    return [
        f"{role} {before[role]['model']} in the place of {pool.model}"
        for role, pool in sorted(now.items())
        if before.get(role) and pool.model not in _models(before, pool)
    ]


def _models(before: Any, pool: Pool) -> set[str]:
    """Return models that the small run may have had for a pool: RSFT may start from the seed."""
    models = {before[pool.name]["model"]}
    return models | {before.get("seed_model")} if pool.trained else models


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
