"""Watch the first trees on the driver; stop a growth or search that is not worth its price."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from avr.config.health import HealthConfig, OnFailure
from avr.core.growth import Shape
from avr.core.health import CHECKS, Finding, ailing, describe, examine, says_something
from avr.core.prompts import Templates
from avr.core.tree import RefinementTree, tree_from_dict
from avr.data.tables import read_rows
from avr.reports.health import FILE, health_of
from avr.run.step import NotWorthIt
from avr.serving.journal import journalled
from avr.storage import Location, write_text


class HealthError(NotWorthIt):
    """Signal the end of a growth whose first trees are mostly of no use.

    The message has the checks that failed, and examples.
    """


class HealthWatch:
    """Examine the first trees of one step, once, and write `health.json`.

    `first` are the ids of the first `config.num_trees` trees in the order of the prompts, or of all
    where there are fewer. The trees that happen to end first would be another choice: those that
    are too long fail at once. Findings are judged again, under the present thresholds, whenever the
    step runs: a run that is continued fails in the same way, unless thresholds have changed. `path`
    is the place of `config` in the configuration; `shape` is the one that trees are grown under.
    """

    def __init__(
        self,
        folder: Location,
        config: HealthConfig,
        path: str,
        first: Iterable[str],
        templates: Templates,
        say: Callable[[str], None],
        shape: Shape,
    ):
        self._folder = folder
        self._config = config
        self._path = path
        self._first = frozenset(first)
        self._templates = templates
        self._say = say
        self._shape = shape
        self._found: dict[str, RefinementTree] = {}
        self._seen: set[Location] = set()
        self._judged = False

    def look_at_parts(self, folders: Sequence[Location], journal: Location | None = None) -> None:
        """Look for the first trees in folders of Parquet files, and judge them if all are there.

        In a search they are in a `journal` first. Call it before engines start and after each
        commit. A tree counts once it has critiques or is quarantined. Raises HealthError where a
        check fails and `on_failure` is stop.
        """
        if self._judged or self._judge_again():
            return
        for folder in folders:
            files: list[Location] = sorted(folder.glob("*.parquet"), key=str)
            for file in files:
                self._read(file)
        if journal is not None:
            rows = (row for row in journalled(journal) if row["id"] in self._first)
            self._take(map(tree_from_dict, rows))
        if self._first and self._found.keys() == self._first:
            trees = [self._found[each] for each in sorted(self._first)]
            self._judge(examine(trees, self._templates, self._shape))

    def _read(self, file: Location) -> None:
        # A file appears whole: what was read once holds nothing new.
        if file in self._seen:
            return
        self._seen.add(file)
        # Ids alone are quick to read; whole trees are read where one of the first is among them.
        if any(row["id"] in self._first for row in read_rows(file, ["id"])):
            self._take(map(tree_from_dict, read_rows(file)))

    def _take(self, trees: Iterable[RefinementTree]) -> None:
        for tree in trees:
            # A tree of an early wave may have no critiques yet: there is nothing to examine. One
            # that was judged and has none was right at once.
            judged = tree.response is not None and tree.response.verdicts
            if tree.id in self._first and (tree.levels or tree.quarantined or judged):
                self._found.setdefault(tree.id, tree)

    def _judge_again(self) -> bool:
        """Judge earlier findings about these trees; return whether there are any."""
        before = health_of(self._folder)
        # Other trees were examined where the prompts or `num_trees` have changed.
        if before is None or set(before["trees"]) != self._first:
            return False
        self._judge([_finding(f) for f in before["checks"]])
        return True

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
        # Written before anything is raised: a run that is continued judges these findings again.
        write_text(self._folder / FILE, json.dumps(verdict, indent=1))
        num_trees = len(self._first)
        if not failed:
            self._say(f"health: the first {num_trees} trees {self._verdict(findings)}")
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
        self._say(f"{text}\n  {self._path}.on_failure is warn; the step goes on")

    def _verdict(self, findings: Sequence[Finding]) -> str:
        """Describe trees without a failed check; a check that counted too few items is named."""
        counted = [f for f in findings if f.num_all]
        silent = [f.name for f in counted if not says_something(f, self._config.num_trees)]
        if len(silent) == len(counted):
            return "are too few to tell"
        return "pass all checks" + (f"; too few to tell: {', '.join(silent)}" if silent else "")


def _finding(data: Mapping[str, Any]) -> Finding:
    return Finding(data["name"], data["num_bad"], data["num_all"], tuple(data["examples"]))
