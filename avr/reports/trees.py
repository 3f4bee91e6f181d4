"""Count trees and searches, and the rows that are made of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from avr.core.growth import Shape
from avr.core.search import best_answer, improving_turns
from avr.core.tree import RefinementTree, has_refinement, reward_of
from avr.data.tables import read_rows, read_trees
from avr.evaluation.judged import Oracle
from avr.reports.health import health_of, health_words
from avr.reports.parts import Column, Rows
from avr.reports.truth import truth_figures, truth_statistics
from avr.storage import Location
from avr.terminal import number

SEARCH = "Search (Stage I model)"


def tree_statistics(folder: Location, shape: Shape) -> dict[str, Any]:
    """Count and average over the trees of one growth. Gains are over trees with a refinement.

    `shape` is the one that they were grown under; it names the judge that knows what is right.
    """
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
    known = truth_statistics(read_trees(folder / "trees"), shape) if shape.truth else None
    return {
        **counts,
        **({"truth": known} if known else {}),
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


def growth_column(title: str, result: Mapping[str, Any], folder: Location) -> Column:
    """Make one growth's column of the table of trees."""
    read, grown, trees = result["input"], result["growth"], result["trees"]
    return Column(
        "Trees",
        title,
        {
            "input rows": str(read["num_rows"]),
            "  not usable": str(read["num_quarantined"]),
            "trees": str(grown["num_trees"]),
            "  quarantined": str(grown["num_quarantined"]),
            "  reasons": "; ".join(trees["quarantined"]) or "-",
            "critiques": str(trees.get("critiques", 0)),
            "  malformed, asked again": str(trees.get("samples_rejected", 0)),
            "  critiques missing after all tries": str(trees.get("critiques_dropped", 0)),
            "refinements": str(trees.get("refinements", 0)),
            "  refinements missing after all tries": str(trees.get("refinements_dropped", 0)),
            "  left out without a reward": str(trees.get("refinements_unscored", 0)),
            "mean gain in reward": number(trees["mean_gain"], "+.3f"),
            "share improved": number(trees["share_improved"], ".1%"),
            **(truth_figures(trees["truth"]) if "truth" in trees else {}),
            "generated tokens": f"{trees.get('tokens', 0):,}",
            "health of the first trees": health_words(health_of(folder)),
        },
    )


def search_statistics(folder: Location, oracle: Oracle | None, shape: Shape) -> dict[str, Any]:
    """Summarise the searches of one step.

    Depth is the number of levels that a search grew; turns are the levels that improved.
    """
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
    if shape.truth:
        statistics["truth"] = truth_statistics(read_trees(folder / "trees"), shape)
    if qualities:
        pairs = {"y0": fmean(y for y, _ in qualities), "best": fmean(b for _, b in qualities)}
        statistics["oracle"] = pairs
    return statistics


def search_column(result: Mapping[str, Any]) -> Column:
    """Make the column with the figures of a search."""
    trees = result["trees"]
    rewards, oracle = trees["reward"], trees.get("oracle")
    return Column(
        SEARCH,
        "",
        {
            "input rows": str(result["input"]["num_rows"]),
            "  not usable": str(result["input"]["num_quarantined"]),
            "queries searched": str(result["queries"]["num_done"]),
            "  quarantined": str(result["queries"]["num_quarantined"]),
            "refinements left out without a reward": str(trees["refinements_unscored"]),
            "mean depth": f"{trees['mean_depth']:.2f}",
            "share improved (any gain)": f"{trees['share_improved']:.1%}",
            "mean reward y0 / best": f"{rewards['y0']:.3f} / {rewards['best']:.3f}",
            "oracle quality y0 / best": f"{oracle['y0']:.3f} / {oracle['best']:.3f}"
            if oracle
            else "-",
            **(truth_figures(trees["truth"]) if "truth" in trees else {}),
            "generated tokens": f"{trees['tokens']:,}",
        },
    )


def trajectories_column(result: Mapping[str, Any]) -> Column:
    """Make the figures of the trajectories, which stand below the figures of their search."""
    figures = {
        "trajectories": str(result["num_rows"]),
        "  in which nothing was changed": str(result["num_unchanged"]),
    }
    return Column(SEARCH, "", figures)


def funnel_rows(funnels: Sequence[Mapping[str, Any]]) -> Rows:
    """Make the rows that show what each rule removed between trees or outputs and training rows."""
    rows = []
    for funnel in funnels:
        removed = ", ".join(f"{rule} {n}" for rule, n in funnel["removed"].items() if n)
        rows.append((funnel["name"], str(funnel["in"]), removed or "-", str(funnel["out"])))
    columns = ("rows", "in", "removed by", "kept")
    return Rows("From trees to training rows", columns, tuple(rows), left=("rows", "removed by"))
