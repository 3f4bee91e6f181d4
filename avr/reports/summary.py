"""What a run came to: tables for the eye, summary.json for programs."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from avr.config.stage1 import Stage1Config
from avr.core.tree import RefinementTree, has_refinement
from avr.data.tables import read_rows, read_trees
from avr.dataflow.health import health_of_all
from avr.run.ledger import Ledger
from avr.storage import Location, write_text, written
from avr.terminal import CONSOLE, number

GROWTHS = ("grow_rsft", "grow_dpo")


def summarise(config: Stage1Config, folder: Location, ledger: Ledger) -> dict[str, Any]:
    """Gather the results of the steps that are done, print them, write summary.json."""
    seconds = ledger.seconds()
    summary: dict[str, Any] = {"run_dir": str(folder), "seconds": seconds}
    summary["health"] = health_of_all(folder, GROWTHS)
    for step in GROWTHS:
        if step in seconds:
            summary[step] = {**ledger.result(step), "trees": tree_statistics(folder / step)}
    for step in ("select", "rsft", "pair", "dpo", "evaluate"):
        if step in seconds:
            summary[step] = ledger.result(step)
    show_summary(
        "Stage I",
        folder,
        summary,
        [_trees_table(summary), funnels_table(_funnels(summary)), evaluation_table(summary)],
    )
    return summary


def show_summary(
    title: str, folder: Location, summary: dict[str, Any], tables: Sequence[Table | None]
) -> None:
    """Print the tables there are, write summary.json and the picture."""
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
    shown = [table for table in tables if table is not None]
    CONSOLE.print(*shown, sep="\n")
    picture = Console(record=True, width=116, file=io.StringIO())
    picture.print(*shown, sep="\n")
    with written(folder / "summary.svg") as file:
        picture.save_svg(str(file), title=f"{title}: {folder.name}")
    CONSOLE.print(f"summary: {folder / 'summary.json'} (and .svg)")


def _funnels(summary: dict[str, Any]) -> list[dict[str, Any]]:
    funnels = [summary["select"]["funnel"]] if "select" in summary else []
    return funnels + (list(summary["pair"]["funnels"].values()) if "pair" in summary else [])


def tree_statistics(folder: Location) -> dict[str, Any]:
    """Counts and means over the trees of one growth. Gains are over trees with a refinement."""
    counts: Counter[str] = Counter()
    gains: list[float] = []
    for tree in read_trees(folder / "trees"):
        counts += _counts(tree)
        if has_refinement(tree):
            gains.append(tree.gain)
    reasons = Counter(
        row["quarantined"].split(":")[0] + ":" + row["quarantined"].split(":")[1][:40]
        for row in read_rows(folder / "quarantine", ["quarantined"])
    )
    return {
        **counts,
        "quarantined": dict(reasons),
        "mean_gain": fmean(gains) if gains else None,
        "share_improved": fmean(g > 0 for g in gains) if gains else None,
    }


def _counts(tree: RefinementTree) -> Counter[str]:
    critiques = [c for level in tree.levels for c in level.critiques]
    return Counter(
        {
            "trees": 1,
            "critiques": len(critiques),
            "refinements": sum(len(c.refinements) for c in critiques),
            "samples_rejected": sum(level.num_rejected for level in tree.levels),
            "critiques_dropped": sum(level.num_dropped for level in tree.levels),
            "refinements_dropped": sum(level.num_dropped_refinements for level in tree.levels),
            "refinements_unscored": sum(level.num_unscored for level in tree.levels),
            "tokens": tree.num_tokens(),
        }
    )


def _trees_table(summary: dict[str, Any]) -> Table | None:
    table = Table(title="Trees", title_justify="left", box=box.SIMPLE)
    for column in ("", "RSFT (seed policy)", "DPO (RSFT model)"):
        table.add_column(column, justify="right" if column else "left")
    grown = [summary.get(step) for step in ("grow_rsft", "grow_dpo")]
    if not any(grown):
        return None

    def row(name: str, value: Any) -> None:
        table.add_row(name, *("-" if g is None else value(g) for g in grown))

    row("input rows", lambda g: str(g["input"]["num_rows"]))
    row("  not usable", lambda g: str(g["input"]["num_quarantined"]))
    row("trees", lambda g: str(g["growth"]["num_trees"]))
    row("  quarantined", lambda g: str(g["growth"]["num_quarantined"]))
    row("  reasons", lambda g: "; ".join(g["trees"]["quarantined"]) or "-")
    row("critiques", lambda g: str(g["trees"].get("critiques", 0)))
    row("  malformed, asked again", lambda g: str(g["trees"].get("samples_rejected", 0)))
    row("  dropped in the end", lambda g: str(g["trees"].get("critiques_dropped", 0)))
    row("refinements", lambda g: str(g["trees"].get("refinements", 0)))
    row("  dropped in the end", lambda g: str(g["trees"].get("refinements_dropped", 0)))
    row("  left out without a reward", lambda g: str(g["trees"].get("refinements_unscored", 0)))
    row("mean gain in reward", lambda g: number(g["trees"]["mean_gain"], "+.3f"))
    row("share improved", lambda g: number(g["trees"]["share_improved"], ".1%"))
    row("generated tokens", lambda g: f"{g['trees'].get('tokens', 0):,}")
    checked = [summary["health"].get(step) for step in GROWTHS]
    table.add_row("health of the first trees", *map(_health, checked))
    return table


def _health(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    shares = {check["name"]: check["share"] for check in found["checks"]}
    return ", ".join(f"{name} {shares[name]:.0%}" for name in found["failed"]) or "well"


def funnels_table(funnels: list[dict[str, Any]]) -> Table | None:
    """What each rule removed on the way from trees or outputs to training rows."""
    if not funnels:
        return None
    table = Table(title="From trees to training rows", title_justify="left", box=box.SIMPLE)
    for column in ("rows", "in", "removed by", "kept"):
        table.add_column(column, justify="left" if column in ("rows", "removed by") else "right")
    for funnel in funnels:
        removed = ", ".join(f"{rule} {n}" for rule, n in funnel["removed"].items() if n)
        table.add_row(funnel["name"], str(funnel["in"]), removed or "-", str(funnel["out"]))
    return table


def evaluation_table(summary: dict[str, Any], trained: str = "") -> Table | None:
    """Models on held-out prompts; one that has no rounds is named after what `trained` it.

    `failed`: rounds that gave no refinement, or outputs without a final answer.
    """
    evaluated = summary.get("evaluate", {})
    rows, num_unscored = evaluated.get("table", []), evaluated.get("num_unscored", 0)
    if not rows:
        return None
    has_oracle = "oracle" in rows[0]
    table = Table(
        title=f"Held-out prompts ({rows[0]['num_prompts']}); r_k: k rounds of self-refinement;"
        " [95% interval]",
        title_justify="left",
        box=box.SIMPLE,
        caption=f"{num_unscored} refinements got no reward and count as failed"
        if num_unscored
        else None,
        caption_justify="left",
    )
    oracle = ["oracle quality", "over the seed"] if has_oracle else []
    for column in ["model", *oracle, "reward", "over the seed", "words", "failed"]:
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for row in rows:
        judged = [row["oracle"], row["reward"]] if has_oracle else [row["reward"]]
        is_seed = row["model"] == "seed" and row["rounds"] == 0
        numbers = [
            text
            for j in judged
            for text in (f"{j['mean'][0]:.3f}", "-" if is_seed else _interval(j["over_seed"]))
        ]
        recursive = row["rounds"] is None
        failed = f"{row['failed']:.1%}" if row["rounds"] or recursive else "-"
        name = f"{trained} {row['model']}" if recursive else f"{row['model']} r{row['rounds']}"
        table.add_row(name, *numbers, f"{row['words']:.1f}", failed)
    return table


def _interval(estimate: list[float]) -> str:
    mean, low, high = estimate
    return f"{mean:+.3f} \\[{low:+.3f}, {high:+.3f}]"
