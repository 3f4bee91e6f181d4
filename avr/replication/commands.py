"""Make the commands of a replication, and check what can be known to be wrong. Starts nothing."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from avr import recipes
from avr.config.errors import ConfigError
from avr.config.fields import MAX_SEED
from avr.config.load import load
from avr.config.table import ReplicaJobConfig, ReplicateConfig, TableConfig
from avr.evaluation.standing import Claim
from avr.plan.models import Use, check_models
from avr.reports.final_answers import row_names
from avr.run.runner import asked_for
from avr.storage import Location, location

# A job is a recipe, and a script of its name.
JOBS = sorted(module.name for module in iter_modules(recipes.__path__))
SCRIPTS = Path(__file__).parents[2] / "jobs"


def recipes_of(job: str) -> Any:
    """Import the module of a job's recipe."""
    return import_module(f"avr.recipes.{job}")


def check(config: ReplicateConfig) -> None:
    """Raise ConfigError for jobs whose configuration does not load, or a table of other jobs.

    A job that is started says by itself what else is wrong with its configuration.
    """
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise ConfigError(f"seeds is {config.seeds}: give at least one seed, and none twice")
    if not all(0 <= seed <= MAX_SEED for seed in config.seeds):
        raise ConfigError(f"seeds: each must lie between 0 and {MAX_SEED}")
    # The steps of the jobs before, by the job's name.
    before: dict[str, list[str]] = {}
    uses: list[Use] = []
    # Maps a model that a job before makes to the model that this starts from.
    made: dict[str, str] = {}
    for name, job in config.jobs.items():
        if job.job not in JOBS:
            raise ConfigError(f"jobs.{name}.job is {job.job!r}; there are {', '.join(JOBS)}")
        own = [o for o in job.overrides if o.startswith("run_dir=")]
        if own:
            raise ConfigError(f"jobs.{name}.overrides: {own[0]!r} is set by the replication")
        try:
            own_config = job_config(config, name, config.seeds[0])
            recipe = recipes_of(job.job).recipe(own_config)
            steps = asked_for(own_config, recipe)
        except ConfigError as error:
            raise ConfigError(f"jobs.{name}: {error}") from error
        uses += [replace(use, job=f"jobs.{name}: ") for step in steps for use in step.uses()]
        trained = recipe.made(own_config.run_dir)
        made |= {model: made.get(origin, origin) for model, origin in trained.items()}
        _check_takes(name, job.takes, [step.name for step in steps], before)
        before[name] = [step.name for step in steps]
    check_models(uses, made)
    for what, asked, kind in (
        ("table", config.table, "table"),
        ("search", config.search, "stage2"),
    ):
        there = [known for known, job in config.jobs.items() if job.job == kind]
        if asked is not None and asked not in there:
            raise ConfigError(f"{what} is {asked!r}; jobs of {kind} are {', '.join(there)}")
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
    name: str, takes: Mapping[str, str], own: list[str], before: Mapping[str, list[str]]
) -> None:
    """Raise ConfigError where a job does not take its first steps in order, all from one job.

    A step knows under which settings the step before it was made, and not which texts that gave. So
    no step may follow one that another job made from other texts.
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
    for job, its in ((name, own), (others[0], before[others[0]])):
        steps = its[: len(takes)]
        if list(takes) != steps:
            raise ConfigError(
                f"jobs.{name}.takes is {', '.join(takes)}; the first steps of {job} are "
                f"{', '.join(steps)}"
            )


def folder_of(config: ReplicateConfig, seed: int) -> Location:
    """Return the folder of a seed's runs."""
    return location(config.run_dir).resolve() / f"seed-{seed}"


def command_of(config: ReplicateConfig, name: str, seed: int) -> list[str]:
    """Return the command of one job, as a user would type it."""
    job, folder = config.jobs[name], folder_of(config, seed)
    script = SCRIPTS / f"{job.job}.py"
    overrides = [f"run_dir={folder / name}", *_filled(job, folder, seed)]
    return [sys.executable, str(script), job.config, *overrides]


def job_config(config: ReplicateConfig, name: str, seed: int) -> Any:
    """Load the configuration of a seed's job."""
    _, _, recipe, *overrides = command_of(config, name, seed)
    return load(recipes_of(config.jobs[name].job).SCHEMA, recipe, overrides)


def table_config(config: ReplicateConfig, seed: int) -> TableConfig:
    """Load the configuration of a seed's table job."""
    found = job_config(config, config.table, seed)
    assert isinstance(found, TableConfig)
    return found


def _filled(job: ReplicaJobConfig, folder: Location, seed: int) -> list[str]:
    """Fill the seed's values into overrides by plain replacement, since YAML has its own braces."""
    return [o.replace("{folder}", str(folder)).replace("{seed}", str(seed)) for o in job.overrides]
