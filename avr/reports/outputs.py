"""Count sampled outputs, and measure the pairs that are made from them."""

from collections import Counter
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from avr.data.tables import read_rows, read_sets
from avr.evaluation.judged import Oracle
from avr.reports.parts import Column
from avr.storage import Location
from avr.terminal import number


def output_statistics(folder: Location, oracle: Oracle | None) -> dict[str, Any]:
    """Summarise all samples, malformed ones included; quality only of those with a final answer.

    Judgements without a rating are not kept, so their tokens are not counted.
    """
    reasons: Counter[str] = Counter()
    turns: Counter[int] = Counter()
    qualities: list[float] = []
    num_missing = num_tokens = 0
    for outputs in read_sets(folder / "outputs"):
        reasons.update(failure.failure for failure in outputs.failures)
        turns.update(output.num_turns for output in outputs.outputs)
        num_missing += outputs.num_missing
        for output in (*outputs.outputs, *outputs.failures):
            num_tokens += output.num_tokens + sum(j.num_tokens for j in output.judgements)
        if oracle is not None:
            query = outputs.prompt.query[-1].content
            qualities += [oracle(query, output.answer) for output in outputs.outputs]
    num_samples = turns.total() + reasons.total()
    return {
        "samples": num_samples,
        "failures": reasons.total(),
        "failure_rate": reasons.total() / num_samples,
        "reasons": dict(reasons.most_common(5)),
        "missing": num_missing,
        "turns": dict(sorted(turns.items())),
        "tokens": num_tokens,
        "oracle": fmean(qualities) if qualities else None,
    }


def pair_lengths(sampled: Location, pairs: Location) -> dict[str, Any]:
    """Average the characters of the final answers and of the whole outputs in the pairs."""
    answers = {
        output.id: output.answer for outputs in read_sets(sampled) for output in outputs.outputs
    }
    columns = ["kind", "chosen", "rejected", "node_ids"]
    rows = [row for row in read_rows(pairs, columns) if row["kind"] == "output"]
    if not rows:
        return {}
    sides = {"chosen": -2, "rejected": -1}  # the place of a side's id in `node_ids`
    return {
        "answer": {
            side: fmean(len(answers[row["node_ids"][place]]) for row in rows)
            for side, place in sides.items()
        },
        "output": {side: fmean(len(row[side][0]["content"]) for row in rows) for side in sides},
    }


def outputs_column(title: str, result: Mapping[str, Any]) -> Column:
    """Make the column with the figures of sampled outputs."""
    outputs = result["outputs"]
    return Column(
        title,
        "",
        {
            "samples": str(outputs["samples"]),
            "  without a final answer": f"{outputs['failures']} ({outputs['failure_rate']:.1%})",
            "  missing after all tries": str(outputs["missing"]),
            "oracle quality of final answers": number(outputs["oracle"], ".3f"),
            "generated tokens": f"{outputs['tokens']:,}",
        },
    )


def pairs_column(title: str, result: Mapping[str, Any]) -> Column:
    """Make the figures of the pairs of outputs, which stand below the figures of the outputs."""
    lengths = result["lengths"]
    figures = {
        "pairs": str(result["num_pairs"]),
        "mean characters chosen / rejected: final answer": _both(lengths.get("answer")),
        "  whole output": _both(lengths.get("output")),
    }
    return Column(title, "", figures)


def _both(lengths: Mapping[str, float] | None) -> str:
    return f"{lengths['chosen']:.0f} / {lengths['rejected']:.0f}" if lengths else "-"
