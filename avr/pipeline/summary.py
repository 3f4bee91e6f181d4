"""What a run came to: tables for the eye, summary.json for programs."""

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from avr.config import Stage1Config
from avr.core.selection import has_refinement
from avr.core.tree import RefinementTree
from avr.pipeline.forecast import Forecast, RoleForecast
from avr.pipeline.health import health_of_all
from avr.pipeline.ledger import Ledger
from avr.pipeline.plan import StepPlan
from avr.pipeline.plan_memory import PoolMemory
from avr.pipeline.progress import CONSOLE
from avr.pipeline.tables import read_rows, read_trees
from avr.storage import Location, write_text, written

GROWTHS = ("grow_rsft", "grow_dpo")


def print_plan(plan: Sequence[StepPlan]) -> None:
    """What each step starts, and the least it needs."""
    table = Table(title="Plan", title_justify="left", box=box.SIMPLE)
    columns = ("step", "pool", "replicas", "each", "texts per prompt", "least needed")
    for column in columns:
        table.add_column(column)
    for step in plan:
        cpus, gpus = step.least()
        least = f"{cpus:g} CPUs, {gpus:g} GPUs" + ("" if step.together else ", one by one")
        for n, pool in enumerate(step.pools):
            replicas = f"{pool.min_replicas}-{pool.max_replicas}"
            each = f"{pool.cpus:g} CPUs, {pool.gpus:g} GPUs"
            name = f"{pool.name}: {'the RSFT model' if pool.trained else pool.model}"
            first = (step.step, least) if n == 0 else ("", "")
            table.add_row(first[0], name, replicas, each, str(pool.samples or "-"), first[1])
    CONSOLE.print(table)
    CONSOLE.print(
        "least needed: what a step waits for before it begins: all its pools at their smallest\n"
        "(the largest of them where they take turns), and CPUs for the tasks around them."
    )


def print_memory(memory: Sequence[PoolMemory]) -> None:
    """What one GPU has to hold for an engine or a training rank; nothing where there is none."""
    if not memory:
        return
    table = Table(title="Memory of one GPU", title_justify="left", box=box.SIMPLE)
    for column in ("step", "pool", "GiB", "made of"):
        table.add_column(column)
    for one in (one for one in memory if not one.unknown):
        table.add_row(one.step, one.pool, one.amount, one.parts)
    if table.rows:
        CONSOLE.print(table)
    for one in memory:
        if one.unknown:
            words = f"{one.step}: memory of {one.pool} could not be worked out: {one.unknown}"
            CONSOLE.print(words, markup=False)
        elif one.tight:
            words = f"; what would help: {one.helps}" if one.helps else ""
            CONSOLE.print(f"{one.step}: {one.pool} is tight: {one.amount}{words}", markup=False)
    if any(one.allowed is None and not one.unknown for one in memory):
        CONSOLE.print(
            "How much memory a GPU has is not known here: gpu_memory_gib=80, say, or --cluster FILE"
            "\nof a cluster file whose machines are known."
        )


def print_roles(forecasts: Iterable[RoleForecast], unknown: Sequence[str]) -> None:
    """What each role has to do; in `unknown` steps how long the texts are was not measured."""
    table = Table(title="Calls, at the most", title_justify="left", box=box.SIMPLE)
    for column in ("step", "role", "texts", "generated tokens", "busy", "held"):
        table.add_column(column, justify="left" if column in ("step", "role") else "right")
    known = False
    for row in forecasts:
        hours = (number(hours, ".3g") for hours in (row.busy, row.held))
        table.add_row(row.step, row.role, f"{row.texts:,}", number(row.tokens, ",.0f"), *hours)
        known = known or row.busy is not None
    CONSOLE.print(table)
    if unknown:
        CONSOLE.print(
            f"{', '.join(unknown)}: whole outputs, each as long as several texts of a tree. How\n"
            "long, the small run's trees do not say; --mean-tokens takes a guess, for all steps."
        )
    if known:
        CONSOLE.print(
            "busy: device-hours of the role's generation. held: of all devices of the step while\n"
            "its slowest role generates, which is what a run counts. Scoring, training and starts\n"
            "of engines come on top."
        )


def print_forecast(forecasts: Iterable[Forecast], others: Sequence[str]) -> None:
    """What each step will take, and all together; `others` are models that the small run had."""
    if others:
        CONSOLE.print(
            f"What follows is of other models, which the small run had: {'; '.join(others)}.",
            markup=False,
        )
    table = Table(title="What it will take", title_justify="left", box=box.SIMPLE)
    for column in ("step", "prompts", "generated tokens", "device-hours", "GiB on disk"):
        table.add_column(column, justify="left" if column == "step" else "right")
    rows = list(forecasts)
    for row in rows:
        hours, gib = number(row.device_hours, ".3g"), number(row.gib, ".3g")
        table.add_row(row.step, f"{row.prompts:,}", number(row.tokens, ",.0f"), hours, gib)
    hours = sum(row.device_hours or 0.0 for row in rows)
    gib = sum(row.gib or 0.0 for row in rows)
    table.add_row("all known", "", "", f"{hours:.3g}", f"{gib:.3g}")
    CONSOLE.print(table)
    CONSOLE.print(
        "Scaled by the number of prompts, starts of engines too: a small run of few prompts says\n"
        "too much, and one with other models, replicas or devices says nothing."
    )


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


def number(value: float | None, form: str) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:{form}}"
