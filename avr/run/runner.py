"""Run a recipe: check all of it, plan all of it, then do what is not done yet, step by step."""

import io
import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from avr.config.checks import check_values
from avr.config.errors import ConfigError
from avr.config.roles import RoleConfig
from avr.config.run import RunConfig
from avr.plan.checks import check_run_dir
from avr.plan.memory import check_memory
from avr.plan.models import check_models
from avr.plan.resources import StepPlan
from avr.reports.health import health_of_all
from avr.reports.parts import tables_of
from avr.run.budget import Meter
from avr.run.folder import check_ours, own_folders
from avr.run.ledger import Ledger
from avr.run.lock import lock_folder
from avr.run.recipe import Recipe
from avr.run.step import NotWorthIt, Run, Step
from avr.storage import (
    Location,
    check_writable,
    is_remote,
    location,
    reached,
    scratch,
    sweep,
    write_text,
    written,
)
from avr.terminal import CONSOLE, indented


def asked_for(config: RunConfig, recipe: Recipe) -> list[Step]:
    """Return the steps that `config.steps` names, or all where it is unset.

    Raises ConfigError for a name that no step has, and for an empty list.
    """
    if config.steps is None:
        return list(recipe.steps)
    names = [step.name for step in recipe.steps]
    unknown = [name for name in config.steps if name not in names]
    if unknown or not config.steps:
        what = f"unknown step {unknown[0]!r}" if unknown else "steps is empty"
        raise ConfigError(f"{what}; there are: {', '.join(names)}")
    return [step for step in recipe.steps if step.name in config.steps]


def checked(config: RunConfig, recipe: Recipe) -> list[StepPlan]:
    """Check the steps asked for; return the plans of those that need devices.

    Raises ConfigError for what can be known to be wrong.
    """
    check_values(config)
    check_run_dir(config.run_dir)
    steps = asked_for(config, recipe)
    recipe.check()
    for step in steps:
        step.check()
    check_models((use for step in steps for use in step.uses()), made=recipe.made(config.run_dir))
    return [plan for step in steps if (plan := step.needs()) is not None]


def run(config: RunConfig, recipe: Recipe) -> Location:
    """Do the steps that are asked for and not done, then report on them; return the run_dir.

    Raises ConfigError where something cannot be, LedgerError while another job holds the folder or
    where it belongs to other settings, and NotWorthIt, after a summary.
    """
    recipe.ready()
    plan = checked(config, recipe)
    check_memory(plan, config.gpu_memory_gib)
    folder = location(config.run_dir).resolve()
    # Ray's native code writes to a file descriptor, so its log has to be a file on this machine.
    logs = scratch() if is_remote(folder) else Path(folder)
    names = [step.name for step in recipe.steps]
    ledger = Ledger(
        folder / "ledger",
        lambda line: CONSOLE.print(f"[bold]{line}[/bold]"),
        lambda: _connect(config, plan, logs),
    )
    with reached("run_dir", folder):
        ledger.check_resume(config.resume)
        check_ours(folder, names)
    check_writable(folder, "run_dir")
    with lock_folder(folder, indented):
        # Writers that were killed may have left temporary files; `sweep` only knows folders.
        if not is_remote(folder):
            sweep(folder, own_folders(names))
        meter = Meter(folder / "device_hours.json", config.budget)
        here = Run(config, folder, ledger, meter)
        asked = asked_for(config, recipe)
        try:
            for step in asked:
                ledger.step(step.name, here.decided_by(step), partial(step.work, here))
        except NotWorthIt:
            # Programs read in the summary why the run has ended.
            summarise(here, recipe)
            raise
        # A run of some steps says nothing about the settings of the others.
        if len(asked) == len(recipe.steps):
            _write_config(config, folder / "config.yaml")
        (recipe.finish or (lambda done: summarise(done, recipe)))(here)
    return folder


def summarise(run: Run, recipe: Recipe) -> None:
    """Write summary.json and its picture from the reports of the steps that are done; print it."""
    done, names = run.ledger.seconds(), [step.name for step in recipe.steps]
    seconds = {name: done[name] for name in names if name in done}
    reports = {step.name: step.report(run) for step in recipe.steps if step.name in seconds}
    health = health_of_all(run.folder, names)
    summary: dict[str, Any] = {"run_dir": str(run.folder), "seconds": seconds, "health": health}
    summary |= {name: dict(report.summary) for name, report in reports.items()}
    write_text(run.folder / "summary.json", json.dumps(summary, indent=1))
    shown = tables_of(part for report in reports.values() for part in report.parts)
    CONSOLE.print(*shown, sep="\n")
    picture = Console(record=True, width=116, file=io.StringIO())
    picture.print(*shown, sep="\n")
    with written(run.folder / "summary.svg") as file:
        picture.save_svg(str(file), title=f"{recipe.title}: {run.folder.name}")
    CONSOLE.print(f"summary: {run.folder / 'summary.json'} (and .svg)")


def _connect(config: RunConfig, plan: Sequence[StepPlan], logs: Path) -> None:
    # Imported here, as it brings Ray along, which a run that is done does not need.
    from avr.hosting.cluster import connect

    connect(config.ray, plan, logs / "logs" / "driver.log")


def _write_config(config: RunConfig, file: Location) -> None:
    """Write the configuration in full, but for environment variables: these may hold secrets.

    It is called once every step has accepted the configuration.
    """
    shown = OmegaConf.structured(config)
    _hide(config, shown)
    write_text(file, OmegaConf.to_yaml(shown))


def _hide(config: Any, shown: Any) -> None:
    """Hide the environment variables of roles, at any depth."""
    if isinstance(config, RoleConfig):
        shown.env = dict.fromkeys(shown.env, "(not shown)")
    for each in fields(config):
        value = getattr(config, each.name)
        inner = value if isinstance(value, dict) else {}
        if is_dataclass(value):
            _hide(value, shown[each.name])
        for key, one in inner.items():
            if is_dataclass(one):
                _hide(one, shown[each.name][key])
