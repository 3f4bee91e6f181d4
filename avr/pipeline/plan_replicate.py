"""The commands of a replication, and what can be known to be wrong with them. Starts nothing."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from avr.config.answers import AnswerConfig, EvaluateConfig, RefineConfig
from avr.config.errors import ConfigError
from avr.config.fields import MAX_SEED
from avr.config.load import load
from avr.config.stage1 import Stage1Config
from avr.config.stage2 import Stage2Config
from avr.config.table import ReplicaJobConfig, ReplicateConfig, TableConfig
from avr.evaluation.standing import Claim
from avr.pipeline.model_checks import Use, check_models, trained_by, uses_of
from avr.reports.final_answers import row_names
from avr.storage import Location, location

JOBS = Path(__file__).parents[2] / "jobs"
SCHEMAS: dict[str, type] = {
    "stage1": Stage1Config,
    "stage2": Stage2Config,
    "table": TableConfig,
    "answer": AnswerConfig,
    "evaluate": EvaluateConfig,
    "refine": RefineConfig,
}


def check(config: ReplicateConfig) -> None:
    """Raise ConfigError for jobs whose configuration does not load, or a table that is not theirs.

    What a job finds wrong with its configuration beyond that, it says when it is started.
    """
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise ConfigError(f"seeds is {config.seeds}: it takes different seeds, at least one")
    if not all(0 <= seed <= MAX_SEED for seed in config.seeds):
        raise ConfigError(f"seeds: each must lie between 0 and {MAX_SEED}")
    asked: dict[str, Any] = {}  # of the jobs before, by name
    uses: list[Use] = []
    made: dict[str, str] = {}  # by jobs before, from which model
    for name, job in config.jobs.items():
        if job.job not in SCHEMAS:
            raise ConfigError(f"jobs.{name}.job is {job.job!r}; there are {', '.join(SCHEMAS)}")
        own = [o for o in job.overrides if o.startswith("run_dir=")]
        if own:
            raise ConfigError(f"jobs.{name}.overrides: {own[0]!r} is set by the replication")
        try:
            own_config = job_config(config, name, config.seeds[0])
        except ConfigError as error:
            raise ConfigError(f"jobs.{name}: {error}") from error
        uses += [replace(use, job=f"jobs.{name}: ") for use in uses_of(own_config)]
        trained = trained_by(own_config)
        made |= {model: made.get(origin, origin) for model, origin in trained.items()}
        _check_takes(name, job.takes, own_config, asked)
        asked[name] = own_config
    check_models(uses, made)
    for what, name, kind in (("table", config.table, "table"), ("search", config.search, "stage2")):
        there = [known for known, job in config.jobs.items() if job.job == kind]
        if name is not None and name not in there:
            raise ConfigError(f"{what} is {name!r}; jobs of {kind} are {', '.join(there)}")
    rows = row_names(table_config(config, config.seeds[0]))
    try:
        claims = list(map(Claim.parsed, config.orderings))
    except ValueError as error:
        raise ConfigError(f"orderings: {error}") from error
    named = [*config.efficiency]
    named += [row for claim in claims for row in (claim.lower, claim.higher)]
    unknown = [name for name in named if name not in rows]
    if unknown:
        raise ConfigError(f"no row {unknown[0]!r} in the table; there are {', '.join(rows)}")


def _check_takes(
    name: str, takes: Mapping[str, str], own_config: Any, before: Mapping[str, Any]
) -> None:
    """A step says under which settings the one before it was made, not which texts came of it.

    So a job takes its first steps, one after the other, and all from one job.
    """
    if not takes:
        return
    others = sorted(set(takes.values()))
    if len(others) > 1 or others[0] not in before:
        there = ", ".join(before) or "there is none"
        raise ConfigError(
            f"jobs.{name}.takes is from {' and '.join(others)}: it must be from one job before it "
            f"({there})"
        )
    for job, its_config in ((name, own_config), (others[0], before[others[0]])):
        steps = its_config.steps[: len(takes)]
        if list(takes) != list(steps):
            raise ConfigError(
                f"jobs.{name}.takes is {', '.join(takes)}; the first steps of {job} are "
                f"{', '.join(steps)}"
            )


def folder_of(config: ReplicateConfig, seed: int) -> Location:
    """Where a seed's runs lie."""
    return location(config.run_dir).resolve() / f"seed-{seed}"


def command_of(config: ReplicateConfig, name: str, seed: int) -> list[str]:
    """The command of one job, as a user would type it."""
    job, folder = config.jobs[name], folder_of(config, seed)
    script = JOBS / f"{job.job}.py"
    overrides = [f"run_dir={folder / name}", *_filled(job, folder, seed)]
    return [sys.executable, str(script), job.config, *overrides]


def job_config(config: ReplicateConfig, name: str, seed: int) -> Any:
    """What a job of a seed runs under."""
    _, _, recipe, *overrides = command_of(config, name, seed)
    return load(SCHEMAS[config.jobs[name].job], recipe, overrides)


def table_config(config: ReplicateConfig, seed: int) -> TableConfig:
    """What the table's job of a seed runs under."""
    found = job_config(config, config.table, seed)
    assert isinstance(found, TableConfig)
    return found


def _filled(job: ReplicaJobConfig, folder: Location, seed: int) -> list[str]:
    """Overrides with the seed's values; plain replacement, since YAML has braces of its own."""
    return [o.replace("{folder}", str(folder)).replace("{seed}", str(seed)) for o in job.overrides]
