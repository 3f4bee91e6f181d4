"""Draw what scaling.py has measured, in all of its reports together.

    python benchmarks/scaling_charts.py

Reads results/scaling*.json and the part of results/bench.json; writes results/scaling.svg (the rate
of linear over the number of engines; a report whose name ends with -before is drawn hollow) and
results/scaling-prompts.svg (memory and CPU of the driver over the number of prompts, of the report
that has most of them).
"""

import json
import sys
from contextlib import contextmanager

from measure import measuring

from avr.evaluation.charts import new_axes

AIMS = {256: 0.95, 1024: 0.9}  # of linear
NAMES = {"fontsize": 8, "ha": "center", "textcoords": "offset points"}


def main():
    found = reports()
    points = [
        (name.endswith("-before"), report["arguments"]["trees_per_engine"], one)
        for name, report in found
        for one in report["engines"]
    ]
    if points:
        draw_engines(points)
    prompts = max((report["prompts"] for _, report in found), key=len, default=[])
    if prompts:
        draw_prompts(prompts)


def reports():
    """List (name, report) of every run of scaling.py, the part of bench.json first."""
    bench = measuring.RESULTS / "bench.json"
    parts = json.loads(bench.read_text())["reports"] if bench.exists() else {}
    found = [("bench", parts["scaling"])] if "scaling" in parts else []
    files = sorted(measuring.RESULTS.glob("scaling*.json"))
    return found + [(file.stem, json.loads(file.read_text())) for file in files]


def draw_engines(points):
    """Draw `points`: (measured before a change, trees an engine, figures).

    The line is of the fewest trees an engine; names of runs with more of them stand above.
    """
    fewest = min(trees for _, trees, _ in points)
    with new_axes(_written, "scaling.svg") as axes:
        now = sorted((one["engines"], one["of_linear"]) for before, _, one in points if not before)
        line = [
            (one["engines"], one["of_linear"])
            for before, trees, one in points
            if not before and trees == fewest
        ]
        axes.axhline(1, color="0.7", linewidth=1)
        axes.plot(*zip(*sorted(line), strict=True), color="tab:blue", linewidth=1)
        for before, trees, one in points:
            at = (one["engines"], one["of_linear"])
            axes.plot(*at, "o", color="tab:blue", fillstyle="none" if before else "full")
            word = ", before" if before else "" if trees == fewest else f", {trees} trees each"
            axes.annotate(
                f"{at[1]:.2f}{word}", at, xytext=(0, -16 if trees == fewest else 20), **NAMES
            )
        aims = [(number, aim) for number, aim in AIMS.items() if number in dict(now)]
        if aims:
            axes.plot(
                *zip(*aims, strict=True), "_", color="tab:red", markersize=30, zorder=1, label="aim"
            )
            axes.legend(loc="lower right", frameon=False)
        axes.set_xscale("log", base=2)
        conditions = {one["engines"]: one for before, _, one in points if not before}
        words = [
            f"{number}\n{one['rows_per_block']} rows a block\ntime x {one['slowness']:.3g}"
            for number, one in sorted(conditions.items())
        ]
        axes.set_xticks(sorted(conditions), words)
        axes.margins(x=0.13)
        axes.set_ylim(0, 1.1)
        axes.set_xlabel("simulated engines")
        axes.set_ylabel("trees/s of linear")


def draw_prompts(prompts):
    """Draw the driver's memory, at its most and before, and its CPU."""
    numbers = [one["prompts"] for one in prompts]
    with new_axes(_written, "scaling-prompts.svg") as axes:
        for key, style, word in (("most", "o-", "at most"), ("before", "o--", "before")):
            values = [one[f"driver_{key}_mib"] for one in prompts]
            axes.plot(numbers, values, style, color="tab:orange")
            for n, at in enumerate(zip(numbers, values, strict=True)):
                text = f"{at[1]} {word}" if n == 0 else f"{at[1]}"
                axes.annotate(text, at, xytext=(0, 8), **NAMES)
        axes.set_ylim(0, 1.25 * max(one["driver_most_mib"] for one in prompts))
        axes.set_ylabel("memory of the driver, MiB", color="tab:orange")
        other = axes.twinx()
        spent = [one["driver_ms_per_tree"] for one in prompts]
        other.plot(numbers, spent, "s-", color="tab:blue")
        for at in zip(numbers, spent, strict=True):
            other.annotate(f"{at[1]:.2f}", at, xytext=(0, -16), **NAMES)
        other.set_ylim(0, 2 * max(spent))
        other.spines["top"].set_visible(False)
        other.set_ylabel("its CPU, ms a tree", color="tab:blue")
        axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
        axes.minorticks_off()
        axes.margins(x=0.1)
        axes.set_xlabel(f"prompts ({prompts[0]['rows_per_block']} rows a block)")


@contextmanager
def _written(name):
    file = measuring.RESULTS / name
    yield file
    print(f"written: {file}")


if __name__ == "__main__":
    sys.exit(main())
