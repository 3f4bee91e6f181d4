"""What a Stage II run came to: tables for the eye, summary.json for programs."""

import json
from collections import Counter
from pathlib import PurePath
from statistics import fmean
from typing import Any

from rich import box
from rich.table import Table

from avr.config.stage2 import Stage2Config
from avr.config.texts import template_of
from avr.core.search import best_answer, improving_turns
from avr.core.tree import reward_of
from avr.data.tables import read_rows, read_sets, read_trees
from avr.dataflow.health import health_of_all
from avr.evaluation.judged import Oracle, load_oracle
from avr.reports.summary import evaluation_table, funnels_table, show_summary
from avr.run.ledger import Ledger
from avr.storage import Location
from avr.terminal import number
from avr.training.job import RECORD


def summarise(config: Stage2Config, folder: Location, ledger: Ledger) -> dict[str, Any]:
    """Gather the results of the steps that are done, print them, write summary.json."""
    seconds = ledger.seconds()
    plain = template_of(config.trajectories).plain
    oracle = load_oracle(config.evaluation.oracle) if config.evaluation else None
    summary: dict[str, Any] = {"run_dir": str(folder), "seconds": seconds}
    summary["health"] = health_of_all(folder, ("search",))
    summary |= {step: ledger.result(step) for step in seconds}
    if "search" in seconds:
        summary["search"]["trees"] = search_statistics(folder / "search", oracle)
    if "rsft" in seconds:
        record = json.loads((folder / "rsft" / RECORD).read_text())
        summary["rsft"]["trained_from"] = record["trained_from"]
    if "sample" in seconds:
        summary["sample"]["outputs"] = output_statistics(folder / "sample", oracle)
    if "pair" in seconds:
        summary["pair"]["lengths"] = pair_lengths(folder)
    funnels = [summary["unroll"]["funnel"]] if "unroll" in summary else []
    funnels += summary["pair"]["funnels"] if "pair" in summary else []
    tables = [
        _search_table(summary),
        funnels_table(funnels),
        _outputs_table(summary, plain),
        evaluation_table(summary, "baseline" if plain else "stage2"),
    ]
    show_summary("Baseline" if plain else "Stage II", folder, summary, tables)
    return summary


def search_statistics(folder: Location, oracle: Oracle | None) -> dict[str, Any]:
    """Depth is the number of levels a search grew; turns are those that improved."""
    depths: Counter[int] = Counter()
    turns: Counter[int] = Counter()
    rewards: list[tuple[float, float]] = []
    qualities: list[tuple[float, float]] = []
    num_tokens = num_unscored = 0
    for tree in read_trees(folder / "trees"):
        first, best = tree.first, best_answer(tree)
        depths[len(tree.levels)] += 1
        turns[len(improving_turns(tree))] += 1
        rewards.append((reward_of(first), reward_of(best)))
        num_tokens += tree.num_tokens()
        num_unscored += sum(level.num_unscored for level in tree.levels)
        if oracle is not None:
            query = tree.prompt.query[-1].content
            qualities.append((oracle(query, first.text), oracle(query, best.text)))
    num_trees = depths.total()
    statistics: dict[str, Any] = {
        "trees": num_trees,
        "depths": dict(sorted(depths.items())),
        "improving_turns": dict(sorted(turns.items())),
        "mean_depth": sum(d * n for d, n in depths.items()) / num_trees,
        "share_improved": 1 - turns[0] / num_trees,
        "reward": {"y0": fmean(y for y, _ in rewards), "best": fmean(b for _, b in rewards)},
        "tokens": num_tokens,
        "refinements_unscored": num_unscored,
    }
    if qualities:
        pairs = {"y0": fmean(y for y, _ in qualities), "best": fmean(b for _, b in qualities)}
        statistics["oracle"] = pairs
    return statistics


def output_statistics(folder: Location, oracle: Oracle | None) -> dict[str, Any]:
    """Over all samples, malformed ones included; quality over those with a final answer.

    Judgements that had no rating are not kept, and their tokens not counted.
    """
    reasons: Counter[str] = Counter()
    turns: Counter[int] = Counter()
    qualities: list[float] = []
    num_missing = num_tokens = 0
    for outputs in read_sets(folder / "outputs"):
        reasons.update(failure.failure for failure in outputs.failures)
        turns.update(output.num_turns for output in outputs.outputs)
        num_missing += outputs.num_missing
        texts = (*outputs.outputs, *outputs.failures)
        num_tokens += sum(text.num_tokens for o in texts for text in (o, *o.judgements))
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


def pair_lengths(folder: Location) -> dict[str, Any]:
    """Mean characters of the final answers and of the whole outputs of the pairs."""
    answers = {
        output.id: output.answer
        for outputs in read_sets(folder / "sample" / "outputs")
        for output in outputs.outputs
    }
    columns = ["kind", "chosen", "rejected", "node_ids"]
    pairs = read_rows(folder / "pair" / "rows.parquet", columns)
    rows = [row for row in pairs if row["kind"] == "output"]  # not of judgements
    if not rows:
        return {}
    sides = {"chosen": -2, "rejected": -1}  # where its node id stands
    return {
        "answer": {
            side: fmean(len(answers[row["node_ids"][place]]) for row in rows)
            for side, place in sides.items()
        },
        "output": {side: fmean(len(row[side][0]["content"]) for row in rows) for side in sides},
    }


def _search_table(summary: dict[str, Any]) -> Table | None:
    if "search" not in summary:
        return None
    search = summary["search"]
    trees, unrolled = search["trees"], summary.get("unroll", {})
    table = _plain_table("Search (Stage I model)")
    rewards, oracle = trees["reward"], trees.get("oracle")
    rows = {
        "input rows": str(search["input"]["num_rows"]),
        "  not usable": str(search["input"]["num_quarantined"]),
        "queries searched": str(search["queries"]["num_done"]),
        "  quarantined": str(search["queries"]["num_quarantined"]),
        "refinements left out without a reward": str(trees["refinements_unscored"]),
        "mean depth": f"{trees['mean_depth']:.2f}",
        "share improved (any gain)": f"{trees['share_improved']:.1%}",
        "mean reward y0 / best": f"{rewards['y0']:.3f} / {rewards['best']:.3f}",
        "oracle quality y0 / best": f"{oracle['y0']:.3f} / {oracle['best']:.3f}" if oracle else "-",
        "trajectories": str(unrolled.get("num_rows", "-")),
        "  in which nothing was changed": str(unrolled.get("num_unchanged", "-")),
        "  that RSFT trains": _short(summary.get("rsft", {}).get("trained_from", "-")),
        "generated tokens": f"{trees['tokens']:,}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _outputs_table(summary: dict[str, Any], plain: bool) -> Table | None:
    if "sample" not in summary:
        return None
    outputs, lengths = summary["sample"]["outputs"], summary.get("pair", {}).get("lengths", {})
    title = "Answers of the model that DPO starts from" if plain else "Whole outputs (RSFT model)"
    table = _plain_table(title)
    answer, whole = lengths.get("answer"), lengths.get("output")
    rows = {
        "samples": str(outputs["samples"]),
        "  without a final answer": f"{outputs['failures']} ({outputs['failure_rate']:.1%})",
        "  missing after all tries": str(outputs["missing"]),
        "oracle quality of final answers": number(outputs["oracle"], ".3f"),
        "pairs": str(summary.get("pair", {}).get("num_pairs", "-")),
        "mean characters chosen / rejected: final answer": _both(answer),
        "  whole output": _both(whole),
        "generated tokens": f"{outputs['tokens']:,}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _short(model: str) -> str:
    """A hub name as it is, of a folder the last two names: `miniature/dpo`."""
    return "/".join(PurePath(model).parts[-2:])


def _both(lengths: dict[str, float] | None) -> str:
    return f"{lengths['chosen']:.0f} / {lengths['rejected']:.0f}" if lengths else "-"


def _plain_table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    return table
