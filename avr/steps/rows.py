"""Make training rows: select refinements, pair, unroll trajectories, pair whole outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from avr.config.errors import ConfigError
from avr.config.rows import OutputPairsConfig, RulesConfig
from avr.core.prompts import Templates
from avr.core.reward import Combination
from avr.core.search import Closing
from avr.core.trajectory import TrajectoryTemplate
from avr.core.tree import RefinementTree
from avr.data import tables
from avr.data.schemas import PAIRS, RSFT_ROWS, pair_row, rsft_row
from avr.reports.outputs import pair_lengths, pairs_column
from avr.reports.trees import funnel_rows, trajectories_column
from avr.rows.funnel import Funnel
from avr.rows.judgement_pairs import make_judgement_pairs
from avr.rows.output_pairs import make_malformed_pairs, make_output_pairs
from avr.rows.refinements import select_rsft
from avr.rows.rewarded import rewarded
from avr.rows.row import KINDS, PreferencePair
from avr.rows.rules import switched_on
from avr.rows.trajectories import select_trajectories
from avr.rows.tree_pairs import make_pairs
from avr.rows.verified import select_verified
from avr.run.step import Report, Run, Step
from avr.steps.ask import check_words
from avr.steps.grow import Grow
from avr.steps.sample import Sample
from avr.steps.search import Search
from avr.storage import Location


def rules_of(at: str, rows: str, config: RulesConfig) -> frozenset[str]:
    """Return the rules in force. Raises ConfigError, naming the setting `at`, for unknown ones."""
    try:
        return switched_on(rows, config.profile, config.switches)
    except ValueError as error:
        raise ConfigError(f"{at}: {error}") from error


@dataclass(frozen=True)
class Select(Step):
    """Select RSFT rows of trees: the best refinement of each tree, where it improves."""

    trees: Grow
    rules: frozenset[str]
    templates: Templates
    combination: Combination
    length_calibrated: bool = False
    kept_share: float = 0.0

    def check(self) -> None:
        """Raise ConfigError for a share that is none, or that nobody can keep."""
        if not 0 <= self.kept_share <= 1:
            raise ConfigError(f"selection.kept_share is {self.kept_share}, must be 0 to 1")
        if self.kept_share and self.trees.reward.truth is None:
            raise ConfigError(
                "selection.kept_share is above 0, but no verifier knows which answers are right"
            )

    def work(self, run: Run) -> dict[str, Any]:
        """Write a row for each tree that the rules let through."""
        check_words(run, self, self.trees, self.templates)
        funnel = Funnel("rsft")
        rows = select_rsft(
            _rewarded(run, self),
            self.templates,
            self.rules,
            funnel,
            shape=self.trees.shape,
            kept_share=self.kept_share,
        )
        count = tables.write_rows(_file(run, self), map(rsft_row, rows), RSFT_ROWS)
        return {"num_rows": count, "funnel": funnel.to_dict()}

    def report(self, run: Run) -> Report:
        """Report the trees that each rule removed."""
        result = run.ledger.result(self.name)
        return Report(result, (funnel_rows([result["funnel"]]),))


@dataclass(frozen=True)
class Keep(Step):
    """Keep the right ones of a model's outputs, as RSFT rows (rejection sampling, RFT)."""

    outputs: Sample
    rules: frozenset[str]
    templates: Templates

    def check(self) -> None:
        """Raise ConfigError where no verifier knows which outputs are right."""
        if self.outputs.reward is None or self.outputs.reward.truth is None:
            raise ConfigError(
                "reward.kind must be maths or code, or an ensemble with such a member"
            )

    def work(self, run: Run) -> dict[str, Any]:
        """Write a row for each output that the rules let through."""
        check_words(run, self, self.outputs, self.templates)
        reward = self.outputs.reward
        assert reward is not None and reward.truth is not None  # as `check` has seen
        funnel, sets = Funnel("rft"), tables.read_sets(run.of(self.outputs) / "outputs")
        rows = select_verified(sets, self.templates, self.rules, funnel, truth=reward.truth.name)
        count = tables.write_rows(_file(run, self), map(rsft_row, rows), RSFT_ROWS)
        return {"num_rows": count, "funnel": funnel.to_dict()}

    def report(self, run: Run) -> Report:
        """Report the outputs that each rule removed."""
        result = run.ledger.result(self.name)
        return Report(result, (funnel_rows([result["funnel"]]),))


@dataclass(frozen=True)
class Pair(Step):
    """Make preference pairs of up to three kinds from each tree."""

    trees: Grow
    kinds: Sequence[str]
    min_margin: float
    rules: frozenset[str]
    templates: Templates
    combination: Combination
    length_calibrated: bool = False

    def check(self) -> None:
        """Raise ConfigError for an unknown kind of pair."""
        strange = [kind for kind in self.kinds if kind not in KINDS]
        if strange:
            raise ConfigError(f"unknown kind of pair {strange[0]!r}; there are: {', '.join(KINDS)}")

    def work(self, run: Run) -> dict[str, Any]:
        """Write the pairs that the rules let through."""
        check_words(run, self, self.trees, self.templates)
        funnels = {kind: Funnel(kind) for kind in self.kinds}
        trees = _rewarded(run, self)
        pairs = make_pairs(
            trees,
            self.templates,
            self.rules,
            funnels,
            self.min_margin,
            shape=self.trees.shape,
        )
        count = tables.write_rows(_file(run, self), map(pair_row, pairs), PAIRS)
        return {"num_pairs": count, "funnels": {k: f.to_dict() for k, f in funnels.items()}}

    def report(self, run: Run) -> Report:
        """Report the pairs that each rule removed, by kind."""
        result = run.ledger.result(self.name)
        return Report(result, (funnel_rows(list(result["funnels"].values())),))


@dataclass(frozen=True)
class Unroll(Step):
    """Make RSFT rows of searches: a trajectory of each, which holds a whole loop in one turn."""

    trees: Search
    rules: frozenset[str]
    template: TrajectoryTemplate
    closing: Closing
    unchanged_share: float
    min_gain: float
    templates: Templates

    def check(self) -> None:
        """Raise ConfigError for a share outside of 0 to 1."""
        if not 0 <= self.unchanged_share <= 1:
            raise ConfigError(
                f"trajectories.unchanged_share is {self.unchanged_share}, must lie between 0 and 1"
            )

    def work(self, run: Run) -> dict[str, Any]:
        """Write a row for each search that the rules let through."""
        check_words(run, self, self.trees, self.templates)
        funnel, file = Funnel("trajectories"), _file(run, self)
        rows = select_trajectories(
            tables.read_trees(run.of(self.trees) / "trees"),
            self.templates,
            self.template,
            self.rules,
            funnel,
            unchanged_share=self.unchanged_share,
            min_gain=self.min_gain,
            closing=self.closing,
            shape=self.trees.shape,
        )
        count = tables.write_rows(file, map(rsft_row, rows), RSFT_ROWS)
        # Counted in the file, as rows are streamed there and not kept.
        num_unchanged = sum(row["gain"] == 0 for row in tables.read_rows(file, ["gain"]))
        return {"num_rows": count, "num_unchanged": num_unchanged, "funnel": funnel.to_dict()}

    def report(self, run: Run) -> Report:
        """Report how many trajectories there are, and how many each rule removed."""
        result = run.ledger.result(self.name)
        return Report(result, (trajectories_column(result), funnel_rows([result["funnel"]])))


@dataclass(frozen=True)
class PairOutputs(Step):
    """Pair whole outputs by preference and, where the policy judged them, its judgements."""

    outputs: Sample
    rules: frozenset[str]
    pairs: OutputPairsConfig
    templates: Templates

    def check(self) -> None:
        """Raise ConfigError for more pairs than outputs can give, and for a share of 1 or more."""
        malformed = self.pairs.malformed_share
        if not malformed < 1:
            raise ConfigError(f"pairs.malformed_share is {malformed}, must lie below 1")
        pairs, outputs = self.pairs.per_prompt, self.outputs.outputs.num_outputs
        if pairs > outputs // 2:
            raise ConfigError(
                f"pairs.per_prompt is {pairs}, which takes {2 * pairs} outputs of a prompt;"
                f" outputs.num_outputs is {outputs}"
            )

    def work(self, run: Run) -> dict[str, Any]:
        """Write pairs of outputs, then pairs with malformed outputs, then pairs of judgements."""
        check_words(run, self, self.outputs, self.templates)
        words, numbers = self.templates, self.pairs
        # A function, as every kind of pair reads the outputs for itself.
        read = partial(tables.read_sets, run.of(self.outputs) / "outputs")
        funnels = [Funnel("outputs")]
        pairs = make_output_pairs(
            read,
            words,
            self.rules,
            funnels[0],
            numbers.min_margin,
            per_prompt=numbers.per_prompt,
            max_pairs=numbers.max_pairs,
        )
        if numbers.malformed_share:
            funnels.append(Funnel("malformed"))

            def malformed(of_outputs: Funnel, funnel: Funnel) -> Iterator[PreferencePair]:
                """Make these pairs after the pairs of outputs, whose number decides theirs."""
                share, others = numbers.malformed_share, of_outputs.num_out
                yield from make_malformed_pairs(
                    read(), words, self.rules, funnel, share=share, num_others=others
                )

            pairs = chain(pairs, malformed(*funnels))
        if self.outputs.reward is None:
            funnels.append(Funnel("judgements"))
            pairs = chain(pairs, make_judgement_pairs(read(), words, funnels[-1]))
        count = tables.write_rows(_file(run, self), map(pair_row, pairs), PAIRS)
        return {"num_pairs": count, "funnels": [funnel.to_dict() for funnel in funnels]}

    def report(self, run: Run) -> Report:
        """Report the lengths of both sides, and the pairs that each rule removed."""
        result = run.ledger.result(self.name)
        lengths = pair_lengths(run.of(self.outputs) / "outputs", _file(run, self))
        result |= {"lengths": lengths}
        return Report(
            result, (pairs_column(self.outputs.title, result), funnel_rows(result["funnels"]))
        )


def _rewarded(run: Run, step: Select | Pair) -> Iterator[RefinementTree]:
    """Read the trees that rows are made of, with their rewards under the step's combination."""
    # In the order of their ids: rows must not depend on which tree was finished first.
    read = partial(tables.read_trees, run.of(step.trees) / "trees")
    return rewarded(read, step.combination, length_calibrated=step.length_calibrated)


def _file(run: Run, step: Step) -> Location:
    return run.of(step) / "rows.parquet"
