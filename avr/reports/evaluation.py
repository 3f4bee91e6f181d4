"""Report an evaluation; it has numbers only where every prompt was answered and judged."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

from avr.config.answers import DuelEndpointConfig, EvaluateConfig, Format, JudgeKind
from avr.data.answer_files import fields_of, kind_of_reason
from avr.data.tables import read_rows
from avr.data.used_prompts import built_on
from avr.evaluation.alpaca import NUM_INSTRUCTIONS, AlignmentError, lc_noreg, length_of, win_rate
from avr.evaluation.arena_hard import (
    DECISIVE,
    Battle,
    Verdict,
    battle,
    score,
    style_controlled,
    style_of,
)
from avr.evaluation.judges import DRAW, Duel, without_asking
from avr.evaluation.length_control import LengthControlUnavailable, length_controlled
from avr.evaluation.logistic import SeparationError
from avr.evaluation.paired import mean_of
from avr.reports.answers import Answer, StaleError, left_out
from avr.storage import Location, location, write_text

# The instructions of the judges are this project's own, not the benchmarks'.
NOT_COMPARABLE = "compare with numbers of the same judge only, not with a public leaderboard"


class IncompleteError(RuntimeError):
    """Signal that not every prompt was judged, so that there is no number."""


def report(
    config: EvaluateConfig,
    folder: Location,
    duels: Sequence[tuple[Answer, Duel]],
    answers: Sequence[Answer],
    judge: Mapping[str, Any],
    say: Callable[[str], None],
) -> None:
    """Write report.json, and say what is in it. `duels` is empty where nothing was judged.

    `judge` holds the settings that the duels were judged under. Where the baseline has answers to
    more prompts than were asked, the rates stand under `of_a_part`. Raises IncompleteError where a
    prompt has no preference; the report then has no rates. Raises StaleError for duels that the
    judge never saw.
    """
    figures: dict[str, Any] = {"name": config.name, **_of_answers(answers)}
    missing: list[str] = []
    if duels:
        rows = {row["id"]: row for row in read_rows(folder / "judge" / "preferences")}
        faults = {row["id"]: row for row in read_rows(folder / "judge" / "quarantine")}
        asked = [duel.id for _, duel in duels]
        stale = [name for name in asked if name not in rows and name not in faults]
        if stale:
            raise StaleError(
                f"{len(stale)} of {len(duels)} duels were never judged: answers or baseline have"
                f" changed since. Remove {folder / 'judge'} and {folder / 'ledger' / 'judge.json'}"
            )
        missing = [faults[name]["quarantined"] for name in asked if name not in rows]
        models = sorted({row["model"] for row in rows.values()} - {"", None})
        figures["judge"] = {"name": _judge(config), "models": models, "settings": dict(judge)}
        figures["judge"] |= {
            "note": NOT_COMPARABLE,
            "chose_training_data": _chose_training_data(config, judge),
        }
        figures["judge"] |= _spent(config.judge.endpoint, [*rows.values(), *faults.values()])
        figures["judged"], figures["not_judged"] = len(duels) - len(missing), len(missing)
        if not missing:
            rates = _rates(config, [(answer, duel, rows[duel.id]) for answer, duel in duels])
            left = left_out(config)
            figures |= {"of_a_part": {"left_out": left, **rates}} if left else rates
    write_text(folder / "report.json", json.dumps(figures, indent=1))
    for line in _lines(figures):
        say(line)
    if missing:
        reasons = Counter(map(kind_of_reason, missing)).most_common(3)
        words = "; ".join(f"{number}: {reason}" for reason, number in reasons)
        raise IncompleteError(
            f"no win rate: {len(missing)} of {len(duels)} prompts were not judged ({words})."
            f" Remove {folder / 'judge' / 'quarantine'} and {folder / 'ledger' / 'judge.json'} to"
            " ask about them again."
        )


def _of_answers(answers: Sequence[Answer]) -> dict[str, Any]:
    lengths = [len(answer.text) for answer in answers]
    reasons = Counter(kind_of_reason(answer.failure) for answer in answers if answer.failure)
    return {
        "rows": len(answers),
        "cut_off": sum(answer.cut for answer in answers),
        "without_answer": sum(not answer.text.strip() for answer in answers),
        "failures": dict(reasons.most_common()),
        "failure_rate": reasons.total() / len(answers),
        "characters": {"mean": fmean(lengths), "median": median(lengths)},
        "tokens": {
            "all": sum(answer.num_tokens for answer in answers),
            "mean": fmean(answer.num_tokens for answer in answers),
        },
    }


def _spent(endpoint: DuelEndpointConfig, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    read, written = (sum(r[f"{side}_tokens"] for r in rows) for side in ("prompt", "completion"))
    cost = (read * endpoint.price_prompt + written * endpoint.price_completion) / 1e6
    return {"prompt_tokens": read, "completion_tokens": written, "cost": cost}


def _judge(config: EvaluateConfig) -> str:
    judge = config.judge
    if judge.kind == JudgeKind.endpoint:
        return f"{judge.endpoint.model} at {judge.endpoint.base_url}"
    if judge.kind == JudgeKind.oracle:
        return f"oracle {judge.oracle}"
    assert judge.reward_model is not None
    return f"reward model {judge.reward_model.model}"


def _chose_training_data(config: EvaluateConfig, judge: Mapping[str, Any]) -> bool | None:
    """Tell whether the judge is the reward model of the run that made the model; None: not known.

    Only that run is looked at. The reward model of an earlier run may have chosen training data as
    well.
    """
    by = judge.get("by")
    if not isinstance(by, Mapping) or "base_url" in by:  # an oracle's name, or a server
        return None
    began = built_on(location(config.policy.model).parent).values()
    rewards = [inputs["reward"] for inputs in began if inputs.get("reward")]
    asked = {judge["role"]["model"] for r in rewards for judge in r["judges"] if "role" in judge}
    return by["model"] in asked or None


Judged = Sequence[tuple[Answer, Duel, dict[str, Any]]]


def _rates(config: EvaluateConfig, judged: Judged) -> dict[str, Any]:
    if config.format == Format.arena_hard:
        return _arena_rates(judged)
    values = [row["value"] for _, _, row in judged]
    interval = mean_of([100 * (value - 1) for value in values])
    rates: dict[str, Any] = {
        "win_rate": asdict(win_rate(values)) | {"low": interval.low, "high": interval.high},
        "baseline_characters": fmean(len(duel.baseline) for _, duel, _ in judged),
        "baseline_without_answer": sum(not duel.baseline.strip() for _, duel, _ in judged),
    }
    texts = [(duel.ours, duel.baseline) for _, duel, _ in judged]
    lengths, theirs = zip(*((length_of(a), length_of(b)) for a, b in texts), strict=True)
    try:
        rates["lc_noreg"] = asdict(lc_noreg(values, lengths, theirs))
    except SeparationError as error:
        rates["lc_noreg"] = str(error)
    if len(judged) == NUM_INSTRUCTIONS:
        rates["length_controlled_v1"] = _alpaca_lc(config, judged)
    return rates


def _alpaca_lc(config: EvaluateConfig, judged: Judged) -> Any:
    """Compute AlpacaEval's own number, or return the reason why there is none."""
    try:
        found = length_controlled(
            [row["value"] for _, _, row in judged],
            [duel.ours for _, duel, _ in judged],
            [duel.baseline for _, duel, _ in judged],
            [str(fields_of(a.row).get(config.prompts.prompt_field)) for a, _, _ in judged],
        )
    except (AlignmentError, LengthControlUnavailable) as error:
        return str(error)
    return asdict(found)


def _arena_rates(judged: Judged) -> dict[str, Any]:
    """Compute Arena-Hard's rates.

    The controlled rates take an empty answer as one of length 0, as Arena-Hard's own code does.
    """
    battles = [each for _, duel, row in judged for each in _battles(duel, row)]
    ours = {duel.id: style_of(duel.ours) for _, duel, _ in judged}
    baseline = {duel.id: style_of(duel.baseline) for _, duel, _ in judged}
    rates: dict[str, Any] = {"win_rate": asdict(score(battles))}
    for name, features in (
        ("length_controlled", ("length",)),
        ("style_controlled", ("length", "headers", "lists", "bolds")),
    ):
        try:
            rates[name] = asdict(style_controlled(battles, ours, baseline, features))
        except SeparationError as error:
            rates[name] = str(error)
    return rates


def _battles(duel: Duel, row: dict[str, Any]) -> list[Battle]:
    """Make the battles of both orders; a judge's single preference makes two equal battles.

    A missing answer loses as heavily as a much worse one. Where both are missing it is a tie like
    any other.
    """
    verdicts = [Verdict(verdict) for verdict in row["verdicts"]]
    if verdicts:
        sides = zip(verdicts, (False, True), strict=True)
        return [battle(duel.id, verdict, model_is_a=ours) for verdict, ours in sides]
    decided = without_asking(duel) is not None and row["value"] != DRAW
    weight = DECISIVE if decided else 1
    return [Battle(duel.id, row["value"] - 1, weight)] * 2


def _lines(figures: dict[str, Any]) -> list[str]:
    lines = [
        f"{figures['rows']} rows, {figures['without_answer']} without an answer;"
        f" failures {figures['failure_rate']:.1%}, cut off {figures['cut_off']};"
        f" {figures['characters']['mean']:.0f} characters (median"
        f" {figures['characters']['median']:.0f}), {figures['tokens']['mean']:.0f} tokens an answer"
    ]
    lines += _of_rates(figures)
    if part := figures.get("of_a_part"):
        lines.append(
            f"partial set: the baseline has {part['left_out']} more prompts; on the prompts asked:"
        )
        lines += [f"  {line}" for line in _of_rates(part)]
    if "judge" in figures:
        judge = figures["judge"]
        lines.append(f"judge: {judge['name']}; {judge['note']}")
        if judge["chose_training_data"]:
            lines.append(
                "this reward model chose what the model was trained on: it is no independent judge"
            )
        if judge["prompt_tokens"]:
            lines.append(
                f"it read {judge['prompt_tokens']} tokens and wrote {judge['completion_tokens']}"
                + (f", {judge['cost']:.2f} by the prices given" if judge["cost"] else "")
            )
    return lines


def _of_rates(figures: dict[str, Any]) -> list[str]:
    lines = []
    if "win_rate" in figures:
        rate = figures["win_rate"]
        words = f"win rate {rate['win_rate']:.1f}% [{rate['low']:.1f}, {rate['high']:.1f}]"
        if "num_draws" in rate:
            words += ": {num_wins} won, {num_draws} drawn, {num_losses} lost".format(**rate)
        lines.append(words)
    for name in ("lc_noreg", "length_controlled_v1", "length_controlled", "style_controlled"):
        found = figures.get(name)
        if isinstance(found, str):
            lines.append(f"{name}: {found}")
        elif found:
            rate = found.get(name, found.get("win_rate"))
            interval = f" [{found['low']:.1f}, {found['high']:.1f}]" if "low" in found else ""
            lines.append(f"{name} {rate:.1f}%{interval}")
    return lines
