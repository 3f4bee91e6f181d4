"""The commands of a replication, and what can be known to be wrong with them. Starts nothing."""

import sys
from pathlib import Path

from avr.config import ConfigError
from avr.config_table import ReplicaJobConfig, ReplicateConfig, TableConfig
from avr.loading import load
from avr.pipeline.final_answers import row_names
from avr.storage import Location, location

JOBS = Path(__file__).parents[2] / "jobs"


def check(config: ReplicateConfig) -> None:
    """Raise ConfigError for jobs that cannot be, with all their overrides."""
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise ConfigError(f"seeds is {config.seeds}: it takes different seeds, at least one")
    for name, job in config.jobs.items():
        if not (JOBS / f"{job.job}.py").is_file():
            raise ConfigError(f"jobs.{name}.job is {job.job!r}: there is no jobs/{job.job}.py")
        if not Path(job.config).is_file():
            raise ConfigError(f"jobs.{name}.config: no such configuration file: {job.config}")
        own = [o for o in job.overrides if o.startswith("run_dir=")]
        if own:
            raise ConfigError(f"jobs.{name}.overrides: {own[0]!r} is set by the replication")
    for what, name in (("table", config.table), ("search", config.search)):
        if name is not None and name not in config.jobs:
            raise ConfigError(f"{what} is {name!r}; jobs are {', '.join(config.jobs)}")
    rows = row_names(table_config(config, config.seeds[0]))
    named = [*config.efficiency]
    named += [part.strip() for claim in config.orderings for part in claim.split("<")]
    unknown = [name for name in named if name not in rows]
    if unknown:
        raise ConfigError(f"no row {unknown[0]!r} in the table; there are {', '.join(rows)}")
    strange = [claim for claim in config.orderings if claim.count("<") != 1]
    if strange:
        raise ConfigError(f"orderings: {strange[0]!r} is not of the form 'ROW < ROW'")


def folder_of(config: ReplicateConfig, seed: int) -> Location:
    """Where a seed's runs lie."""
    return location(config.run_dir).resolve() / f"seed-{seed}"


def command_of(config: ReplicateConfig, name: str, seed: int) -> list[str]:
    """The command of one job, as a user would type it."""
    job, folder = config.jobs[name], folder_of(config, seed)
    script = JOBS / f"{job.job}.py"
    overrides = [f"run_dir={folder / name}", *_filled(job, folder, seed)]
    return [sys.executable, str(script), job.config, *overrides]


def table_config(config: ReplicateConfig, seed: int) -> TableConfig:
    """What the table's job of a seed runs under."""
    job, folder = config.jobs[config.table], folder_of(config, seed)
    return load(
        TableConfig, job.config, [f"run_dir={folder / config.table}", *_filled(job, folder, seed)]
    )


def _filled(job: ReplicaJobConfig, folder: Location, seed: int) -> list[str]:
    """Overrides with the seed's values; plain replacement, since YAML has braces of its own."""
    return [o.replace("{folder}", str(folder)).replace("{seed}", str(seed)) for o in job.overrides]
