"""The same jobs for several seeds, each as its user would start it, and one table of them all."""

import json
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from avr.config_table import ReplicateConfig
from avr.core.messages import content_id
from avr.core.tree import RefinementTree
from avr.evaluation.judged import load_oracle
from avr.evaluation.standing import by_row, ordering, standing
from avr.evaluation.turns import turns_of
from avr.pipeline.final_answers import baseline_row, row_names
from avr.pipeline.ledger import Ledger
from avr.pipeline.lock import lock_folder
from avr.pipeline.plan_replicate import check, command_of, folder_of, table_config
from avr.pipeline.progress import CONSOLE
from avr.pipeline.run import indented
from avr.pipeline.standings import Table, answers_in, items_of, write_table
from avr.pipeline.tables import read_trees
from avr.storage import Location, check_writable, location


class ReplicaError(RuntimeError):
    """A job of a replication failed; what it had to say stands above."""


def run(config: ReplicateConfig) -> None:
    """Do every seed's jobs that are not done yet, in their order, then write the common table.

    Raises ConfigError before anything is started, ReplicaError where a job fails.
    """
    check(config)
    folder = location(config.run_dir).resolve()
    check_writable(folder, "run_dir")
    with lock_folder(folder, indented):
        for seed in config.seeds:
            there = folder_of(config, seed)
            ledger = Ledger(there / "ledger", lambda line: CONSOLE.print(f"[bold]{line}[/bold]"))
            CONSOLE.print(f"[bold]seed {seed}: {there}[/bold]")
            for name in config.jobs:
                job = config.jobs[name]
                recipe = content_id(Path(job.config).read_text())
                inputs = {"job": job.job, "overrides": job.overrides, "recipe": recipe}
                command = command_of(config, name, seed)
                ledger.step(name, inputs, partial(_start, command))
        _report(config, folder)


def _start(command: Sequence[str]) -> dict[str, Any]:
    indented(" ".join(["python", *command[1:]]))
    code = subprocess.run(command, check=False).returncode
    if code:
        raise ReplicaError(
            f"python {' '.join(command[1:])} ended with status {code}; the same command continues"
        )
    return {}


def _report(config: ReplicateConfig, folder: Location) -> None:
    tables = {seed: table_config(config, seed) for seed in config.seeds}
    first = tables[config.seeds[0]]
    answers = [
        answer
        for seed in config.seeds
        for answer in answers_in(folder_of(config, seed) / config.table, str(seed))
    ]
    rows, baseline = by_row(answers), baseline_row(first)
    items: dict[str, list[float]] = defaultdict(list)
    for table in tables.values():
        for row, number in items_of(table).items():
            items[row].append(number)
    seconds = {
        str(seed): Ledger(folder_of(config, seed) / "ledger", indented).seconds()
        for seed in config.seeds
    }
    trees = _searched(config)
    write_table(
        Table(
            baseline=baseline,
            standings=[standing(rows[r], rows[baseline], first.right) for r in row_names(first)],
            items={row: fmean(numbers) for row, numbers in items.items()},
            orderings=[ordering(claim, rows) for claim in config.orderings],
            turns=turns_of(trees, load_oracle(first.oracle)) if trees else (),
            efficiency=config.efficiency,
            notes=[_minutes(seconds)],
            extra={"seconds": seconds, "seeds": list(config.seeds), "by_seed": _by_seed(config)},
        ),
        folder,
        lambda line: CONSOLE.print(line, markup=False, soft_wrap=True),
    )


def _searched(config: ReplicateConfig) -> list[RefinementTree]:
    if config.search is None:
        return []
    folders = [folder_of(config, seed) / config.search for seed in config.seeds]
    return [tree for folder in folders for tree in read_trees(folder / "search" / "trees")]


def _by_seed(config: ReplicateConfig) -> dict[str, dict[str, Any]]:
    """Each seed's own figures: how far replications lie apart."""
    found = {}
    for seed in config.seeds:
        table = json.loads((folder_of(config, seed) / config.table / "table.json").read_text())
        found[str(seed)] = {
            row["row"]: {k: row[k] for k in ("quality", "win_rate", "reward", "characters")}
            for row in table["rows"]
        }
    return found


def _minutes(seconds: dict[str, dict[str, float]]) -> str:
    whole = ", ".join(
        f"{sum(jobs.values()) / 60:.0f} (seed {seed})" for seed, jobs in seconds.items()
    )
    return f"Minutes of all jobs: {whole}."
