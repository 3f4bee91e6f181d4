"""Watch a growth's first trees on the driver, and stop a growth that is not worth its price."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from avr.config_health import HealthConfig, OnFailure
from avr.core.health import CHECKS, Finding, ailing, describe, examine, says_something
from avr.core.prompts import Templates
from avr.core.tree import RefinementTree, tree_from_dict
from avr.pipeline.journal import journalled
from avr.pipeline.tables import read_rows
from avr.storage import Location, write_text

_FILE = "health.json"


class HealthError(RuntimeError):
    """Most of a growth's first trees are of no use; the message has the checks and examples."""


class HealthWatch:
    """Examines the first trees of one step, once, and writes what it found to `health.json`.

    `first` are the ids of the first `config.num_trees` trees in the order of the prompts, all of
    them where there are fewer. Those that happen to end first would be another choice: what is too
    long fails at once. What was found is judged again, under the thresholds of now, whenever the
    step is: a run that is continued fails in the same way, unless thresholds have changed.
    `path` is where the configuration has `config`.
    """

    def __init__(
        self,
        folder: Location,
        config: HealthConfig,
        path: str,
        first: Iterable[str],
        templates: Templates,
        say: Callable[[str], None],
    ):
        self._folder = folder
        self._config = config
        self._path = path
        self._first = frozenset(first)
        self._templates = templates
        self._say = say
        self._found: dict[str, RefinementTree] = {}
        self._seen: set[Location] = set()
        self._judged = False

    def look_at_parts(self, folders: Sequence[Location]) -> None:
        """Look for the first trees in folders of Parquet files, and judge them if all are there.

        Call it before engines start and after each commit. A tree counts once it has critiques or
        is quarantined. Raises HealthError where a check fails and `on_failure` is stop.
        """
        if self._judged or self._judge_again():
            return
        for folder in folders:
            for file in sorted(folder.glob("*.parquet"), key=str):
                self._read(file)
        self._judge_if_complete()

    def look_at_journal(self, journal: Location) -> None:
        """Look for the first trees in a journal, as `look_at_parts` does in Parquet files."""
        if not (self._judged or self._judge_again()):
            rows = (row for row in journalled(journal) if row["id"] in self._first)
            self._take(map(tree_from_dict, rows))
            self._judge_if_complete()

    def _read(self, file: Location) -> None:
        if file in self._seen:
            return
        self._seen.add(file)
        if any(row["id"] in self._first for row in read_rows(file, ["id"])):
            self._take(map(tree_from_dict, read_rows(file)))

    def _take(self, trees: Iterable[RefinementTree]) -> None:
        for tree in trees:
            if tree.id in self._first and (tree.levels or tree.quarantined):
                self._found.setdefault(tree.id, tree)

    def _judge_again(self) -> bool:
        """Whether these trees were examined before; they are judged then."""
        before = health_of(self._folder)
        if before is None or set(before["trees"]) != self._first:
            return False
        self._judge([_finding(f) for f in before["checks"]])
        return True

    def _judge_if_complete(self) -> None:
        if self._first and self._found.keys() == self._first:
            trees = [self._found[each] for each in sorted(self._first)]
            self._judge(examine(trees, self._templates))

    def _judge(self, findings: Sequence[Finding]) -> None:
        self._judged = True
        most = {name: getattr(self._config, name) for name in CHECKS}
        failed = ailing(findings, most, self._config.num_trees)
        stops = bool(failed) and self._config.on_failure == OnFailure.stop
        verdict = {
            "failed": [f.name for f in failed],
            "stopped": stops,
            "checks": [{**asdict(f), "share": f.share, "most": most[f.name]} for f in findings],
            "trees": sorted(self._first),
        }
        write_text(self._folder / _FILE, json.dumps(verdict, indent=1))
        num_trees = len(self._first)
        if not failed:
            self._say(f"health: the first {num_trees} trees {self._all_well(findings)}")
            return
        text = "\n  ".join(
            [
                f"{self._folder.name} fails its health check, on its first {num_trees} trees:",
                *(describe(finding, most[finding.name]) for finding in failed),
            ]
        )
        if stops:
            raise HealthError(
                f"{text}\n  Then choose another run_dir, as templates decide what is grown. To "
                f"let these trees pass: {self._path}.{failed[0].name}=SHARE, or "
                f"{self._path}.on_failure=warn."
            )
        self._say(f"{text}\n  {self._path}.on_failure is warn; the growth goes on")

    def _all_well(self, findings: Sequence[Finding]) -> str:
        """What to say of trees without a failed check; a check that counted too few is named."""
        counted = [f for f in findings if f.num_all]
        silent = [f.name for f in counted if not says_something(f, self._config.num_trees)]
        if len(silent) == len(counted):
            return "are too few to tell"
        return "are well" + (f"; too few to tell: {', '.join(silent)}" if silent else "")


def health_of(step: Location) -> dict[str, Any] | None:
    """Read what a step's health check has found; None where it has not been judged."""
    file = step / _FILE
    return json.loads(file.read_text()) if file.exists() else None


def _finding(data: Mapping[str, Any]) -> Finding:
    return Finding(data["name"], data["num_bad"], data["num_all"], tuple(data["examples"]))


def health_of_all(folder: Location, steps: Sequence[str]) -> dict[str, Any]:
    """Read it of each step that has one, for a run's summary; ids of trees are left out."""
    found = {step: health_of(folder / step) for step in steps}
    return {
        step: {name: value for name, value in health.items() if name != "trees"}
        for step, health in found.items()
        if health is not None
    }
