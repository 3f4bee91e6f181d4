"""Answer held-out prompts with several models, and compare them with the first."""

from dataclasses import dataclass
from typing import Any

from avr.config.answers import Mode
from avr.config.errors import ConfigError
from avr.config.fields import speed_only
from avr.evaluation.judged import load_oracle
from avr.reports.comparison import comparison_rows, num_unscored, recursive_row, refined_rows
from avr.run.step import Report, Run
from avr.steps.answer import Answer


@dataclass(frozen=True)
class Evaluate(Answer):
    """Let entrants answer, and compare each with the first answers of the first one.

    `oracle` is used by the report alone.
    """

    oracle: str | None = speed_only(default=None)

    def check(self) -> None:
        """Raise ConfigError for an unknown oracle or an unset first model, and as `Answer` does."""
        load_oracle(self.oracle)
        seed = self.entrants[0]
        if not seed.model:
            raise ConfigError(f"{seed.at} is not set: the evaluation compares all models with it")
        super().check()

    def report(self, run: Run) -> Report:
        """Report one row for each entrant, and one for each of its rounds."""
        oracle, first = load_oracle(self.oracle), self.entrants[0].name
        seed = {tree.prompt.id: tree for tree in self.trees(run, first)}
        rows: list[dict[str, Any]] = []
        unscored = 0
        for entrant in self.entrants:
            name = entrant.name
            # A recursive model answers in one output: it has no rounds.
            if entrant.mode == Mode.recursive:
                sets = {item.prompt.id: item for item in self.sets(run, name)}
                rows.append(recursive_row(name, sets, seed, first, oracle))
                continue
            trees = {tree.prompt.id: tree for tree in self.trees(run, name)}
            unscored += num_unscored(trees.values())
            rows += refined_rows(name, entrant.rounds, trees, seed, first, oracle)
        result = run.ledger.result(self.name) | {"num_unscored": unscored, "table": rows}
        return Report(result, (comparison_rows(rows, unscored, first),))
