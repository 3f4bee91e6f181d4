"""Run the same jobs for several seeds, each as a user would, and make one table of them all."""

import json
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any

from avr.config.table import ReplicateConfig
from avr.core.tree import RefinementTree
from avr.data.tables import read_trees
from avr.evaluation.judged import load_oracle
from avr.evaluation.standing import by_row, ordering
from avr.evaluation.turns import turns_of
from avr.replication.commands import check, command_of, folder_of, table_config
from avr.reports.final_answers import baseline_row
from avr.reports.table import (
    Table,
    answers_in,
    items_of,
    not_compared,
    num_asked,
    standings_of,
    write_table,
)
from avr.run.ledger import Ledger
from avr.run.lock import lock_folder
from avr.storage import (
    Location,
    check_writable,
    copy,
    location,
    remove,
)
from avr.terminal import CONSOLE, indented


class ReplicaError(RuntimeError):
    """Signal that a job of a replication failed; its own words stand above."""


def run(config: ReplicateConfig) -> None:
    """Start every seed's jobs in their order, then write the common table.

    A job that is done says so and ends: its own ledger knows, and refuses settings that have
    changed. Raises ConfigError before anything is started, ReplicaError where a job fails.
    """
    check(config)
    folder = location(config.run_dir).resolve()
    check_writable(folder, "run_dir")
    with lock_folder(folder, indented):
        for seed in config.seeds:
            for name in config.jobs:
                CONSOLE.print(f"[bold]seed {seed}, {name}[/bold]")
                _take(config, name, seed)
                _start(command_of(config, name, seed))
        _report(config, folder)


def _take(config: ReplicateConfig, name: str, seed: int) -> None:
    """Copy the steps that the job need not do again."""
    folder = folder_of(config, seed)
    own = Ledger(folder / name / "ledger", indented)
    for step, other in config.jobs[name].takes.items():
        there, here = folder / other / step, folder / name / step
        others = Ledger(folder / other / "ledger", indented)
        if not own.take(step, others, partial(_copy, there, here)):
            # The steps behind one of its own must not be those that the other job made.
            return


def _copy(there: Location, here: Location) -> None:
    # A copy that was cut short may have left files.
    remove(here)
    copy(there, here)


def _start(command: Sequence[str]) -> None:
    """Run a job to its end.

    A signal that stops this process also stops the job, which ends in its own way.
    """
    CONSOLE.print(f"python {' '.join(command[1:])}", markup=False, soft_wrap=True)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    process = subprocess.Popen(command)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # A Ctrl-C has reached the job as well.
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
        raise
    except SystemExit:
        process.terminate()
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if code:
        raise ReplicaError(
            f"python {' '.join(command[1:])} ended with status {code}; the same command continues"
        )


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
    seconds = {str(seed): _seconds(config, seed) for seed in config.seeds}
    num_prompts = sum(num_asked(folder_of(config, seed) / config.table) for seed in config.seeds)
    standings = standings_of(first, rows)
    trees = _searched(config)
    write_table(
        Table(
            baseline=baseline,
            standings=standings,
            right=first.right,
            items={row: fmean(numbers) for row, numbers in items.items()},
            orderings=[ordering(claim, rows) for claim in config.orderings],
            turns=turns_of(trees, load_oracle(first.oracle)) if trees else (),
            efficiency=config.efficiency,
            notes=[*not_compared(standings, num_prompts), _minutes(seconds)],
            extra={"seconds": seconds, "seeds": list(config.seeds), "by_seed": _by_seed(config)},
        ),
        folder,
    )


def _searched(config: ReplicateConfig) -> list[RefinementTree]:
    if config.search is None:
        return []
    folders = [folder_of(config, seed) / config.search for seed in config.seeds]
    trees = [tree for folder in folders for tree in read_trees(folder / "search" / "trees")]
    if not trees:
        raise ReplicaError(f"search is {config.search!r}, whose runs hold no searched trees")
    return trees


def _seconds(config: ReplicateConfig, seed: int) -> dict[str, float]:
    """Return the seconds that each job's steps took, over all its runs, without process starts."""
    there = folder_of(config, seed)
    ledgers = {name: Ledger(there / name / "ledger", indented) for name in config.jobs}
    return {name: sum(ledger.seconds().values()) for name, ledger in ledgers.items()}


def _by_seed(config: ReplicateConfig) -> dict[str, dict[str, Any]]:
    """Return each seed's own figures, which show how far replications lie apart."""
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
    return f"Minutes of all steps: {whole}."
