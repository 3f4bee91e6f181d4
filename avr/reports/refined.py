"""Write refined answers, with the outcome of each, and the report about them."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from avr.config.answers import RefineConfig
from avr.core.search import best_answer, improving_turns
from avr.core.tree import RefinementTree, reward_of
from avr.data import tables
from avr.data.answer_files import fields_of, kind_of_reason, write_records
from avr.data.prompt_sets import InputRow, input_rows
from avr.evaluation.judged import load_oracle
from avr.evaluation.paired import difference, mean_of
from avr.reports.answers import StaleError, faults_in, num_refined
from avr.storage import Location, write_text
from avr.terminal import indented


@dataclass(frozen=True)
class Refined:
    """Hold what became of a row's answer; `rounds` 0: it stays, and `reason` says why.

    `gain` is in logits, None where no reward model judged. `num_tokens` counts all tokens generated
    for it. `cut` says whether the new answer ended at its token limit. `num_unscored` refinements
    were left out because the reward model failed on them.
    """

    row: InputRow
    answer: str = ""
    rounds: int = 0
    reason: str = ""
    gain: float | None = None
    num_tokens: int = 0
    cut: bool = False
    num_unscored: int = 0


def outcome_of(row: InputRow, tree: RefinementTree, rounds: int, gated: bool) -> Refined:
    """Read the outcome from a finished tree.

    If `gated` (a reward model judged) the answer is the best one, otherwise it is the last of
    `rounds` rounds.
    """
    y0, gain = tree.first, None
    if gated:
        best, steps = best_answer(tree), len(improving_turns(tree))
        gain = reward_of(best) - reward_of(y0)
    else:
        best = tree.after(rounds)
        steps = num_refined(tree.levels)
    tokens = tree.num_tokens() - y0.num_tokens
    why = "no refinement was better" if gated else "no well-formed refinement came"
    why = why if tree.levels else "too long to be criticised"
    num_unscored = sum(level.num_unscored for level in tree.levels)
    if num_unscored and not any(tree.refined()):
        why = "no refinement could be judged"
    cut = steps > 0 and best.finish_reason == "length"
    return Refined(row, best.text, steps, "" if steps else why, gain, tokens, cut, num_unscored)


def outcomes_of(config: RefineConfig, folder: Location) -> Iterator[Refined]:
    """Yield one outcome per row of the input, in the rows' order.

    Raises StaleError for a row that was never refined.
    """
    trees = {tree.prompt.id: tree for tree in tables.read_trees(folder / "trees")}
    faults = faults_in(folder)
    for row in input_rows(config.answers, needs_answer=True):
        tree = trees.get(row.prompt.id) if row.prompt else None
        if row.prompt is None:
            yield Refined(row, reason=row.reason)
        elif tree is None:
            yield Refined(row, reason=_fault(faults, row.prompt.id, row.source))
        elif tree.prompt.source != row.source:  # a prompt has one tree, from its first answer
            yield Refined(row, reason=f"the same prompt as {tree.prompt.source}")
        else:
            yield outcome_of(row, tree, config.rounds, config.reward_model is not None)


def _fault(faults: dict[str, str], prompt: str, source: str) -> str:
    if prompt not in faults:
        raise StaleError(f"{source} was not refined: the row came after the run")
    return faults[prompt]


def record_of(config: RefineConfig, one: Refined) -> dict[str, Any]:
    """Make the input row with the new answer, and with the outcome under `refined`."""
    how = {name: getattr(one, name) for name in ("rounds", "reason", "gain", "num_tokens", "cut")}
    new = {config.answers.answer_field or "": one.answer} if one.rounds else {}
    return {**fields_of(one.row), **new, "generator": config.name, "refined": how}


def report_of(config: RefineConfig, outcomes: list[Refined]) -> dict[str, Any]:
    """Summarise the outcomes; intervals are 95%.

    Lengths and quality are over all rows with a prompt and an answer.
    """
    rounds = Counter(one.rounds for one in outcomes)
    reasons = Counter(kind_of_reason(one.reason) for one in outcomes if not one.rounds)
    gains = [one.gain for one in outcomes if one.gain is not None]
    texts = []
    for one in outcomes:
        if one.row.prompt is not None:
            was = one.row.prompt.answer or ""
            now = one.answer if one.rounds else was
            texts.append((one.row.prompt.query[-1].content, was, now))
    report: dict[str, Any] = {
        "rows": len(outcomes),
        "refined": len(outcomes) - rounds[0],
        "as_they_were": dict(reasons.most_common()),
        "by_rounds": {str(number): rounds[number] for number in sorted(rounds)},
        "cut_off": sum(one.cut for one in outcomes),
        "tokens": sum(one.num_tokens for one in outcomes),
        "unscored": sum(one.num_unscored for one in outcomes),
    }
    if gains:
        report["gain"] = asdict(mean_of(gains))
    if texts:
        report["characters"] = {
            "was": fmean(len(was) for _, was, _ in texts),
            "is": fmean(len(now) for _, _, now in texts),
        }
    oracle = load_oracle(config.oracle)
    if oracle is not None:
        before, after = ([oracle(each[0], each[side]) for each in texts] for side in (1, 2))
        report["oracle"] = {
            "was": fmean(before),
            "is": fmean(after),
            "difference": asdict(difference(after, before)),
            "worse": sum(b < a for a, b in zip(before, after, strict=True)),
            "better": sum(b > a for a, b in zip(before, after, strict=True)),
        }
    return report


def write_refined(config: RefineConfig, folder: Location, asked: int, to: Location) -> None:
    """Write the file of answers and report.json into `to`, and print what is in them.

    The file has a row for each of the `asked` rows of the input, in their order and with their
    fields. An answer that could not be refined stays, and its row says why. Raises StaleError where
    the input has another number of rows now.
    """
    outcomes = list(outcomes_of(config, folder))
    if len(outcomes) != asked:
        raise StaleError(f"{config.answers.path} had {asked} rows when they were refined")
    listed = str(config.answers.path).endswith(".json")
    file = to / ("answers.json" if listed else "answers.jsonl")
    write_records(file, (record_of(config, one) for one in outcomes))
    report = report_of(config, outcomes)
    write_text(to / "report.json", json.dumps(report, indent=1))
    kept = len(outcomes) - report["refined"]
    indented(f"{len(outcomes)} rows = {report['refined']} refined + {kept} as they were")
    for reason, count in report["as_they_were"].items():
        indented(f"  {count}: {reason}")
    if report["unscored"]:
        indented(f"{report['unscored']} refinements left out: the reward model failed on them")
    if "gain" in report:
        indented(f"mean gain {_interval(report['gain'], 2)} logits (unchanged answers count as 0)")
    if "characters" in report:
        indented("characters {was:.0f} -> {is:.0f}".format(**report["characters"]))
    if "oracle" in report:
        oracle = report["oracle"]
        change = f"{oracle['was']:.3f} -> {oracle['is']:.3f}, {_interval(oracle['difference'], 3)}"
        indented(f"quality {change}; {oracle['better']} better, {oracle['worse']} worse")
    indented(f"{report['tokens']} tokens generated; answers: {file}")


def _interval(estimate: dict[str, float], digits: int) -> str:
    mean, low, high = (f"{estimate[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
