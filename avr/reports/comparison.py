"""Compare the answers of several models with the first answers of one of them, the seed."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from avr.core.outputs import OutputSet
from avr.core.tree import RefinementTree, reward_of
from avr.evaluation.judged import Judged, Oracle, compare
from avr.reports.answers import num_refined
from avr.reports.parts import Rows

Trees = Mapping[str, RefinementTree]  # by the id of the prompt
Sets = Mapping[str, OutputSet]


def refined_rows(
    name: str, rounds: int, ours: Trees, seed: Trees, seed_name: str, oracle: Oracle | None
) -> list[dict[str, Any]]:
    """Make one row for each round of a model that refines its answers when asked.

    A prompt counts where both models have a tree; `num_prompts` is the number of such prompts.
    """
    # In one order whoever finished first, as intervals come from draws.
    both = [(ours[each], seed[each]) for each in sorted(seed) if each in ours]
    _check_any(both, name, seed_name)
    rows = []
    for k in range(rounds + 1):
        refined = sum(num_refined(tree.levels[:k]) for tree, _ in both)
        rows.append(
            {
                "model": name,
                "rounds": k,
                "failed": 1 - refined / (k * len(both)) if k else 0.0,
                **compare(
                    [_after(tree, k) for tree, _ in both],
                    [_after(theirs, 0) for _, theirs in both],
                    oracle,
                ),
            }
        )
    return rows


def recursive_row(
    name: str, ours: Sets, seed: Trees, seed_name: str, oracle: Oracle | None
) -> dict[str, Any]:
    """Make the row of a model that refines by itself; it has no rounds."""
    # In one order whoever finished first, as intervals come from draws.
    both = [(ours[each], seed[each]) for each in sorted(seed) if each in ours]
    _check_any(both, name, seed_name)
    outputs, judged = [], []
    for item, _ in both:
        (output,) = (*item.outputs, *item.failures)
        assert output.reward is not None
        outputs.append(output)
        judged.append(Judged(item.prompt.query[-1].content, output.answer, output.reward))
    return {
        "model": name,
        "rounds": None,
        "failed": fmean(bool(output.failure) for output in outputs),
        "turns": fmean(output.num_turns for output in outputs),
        "tokens": fmean(output.num_tokens for output in outputs),
        **compare(judged, [_after(theirs, 0) for _, theirs in both], oracle),
    }


def num_unscored(trees: Iterable[RefinementTree]) -> int:
    """Count the refinements that the reward model failed on; each counts as a failed round."""
    return sum(level.num_unscored for tree in trees for level in tree.levels)


def comparison_rows(rows: Sequence[Mapping[str, Any]], unscored: int, seed_name: str) -> Rows:
    """Make the table of models on held-out prompts.

    `failed` is the share of rounds without a refinement, or of outputs without a final answer.
    """
    has_oracle = "oracle" in rows[0]
    oracle = ("oracle quality", "over the seed ") if has_oracle else ()
    lines = []
    for row in rows:
        judged = [row["oracle"], row["reward"]] if has_oracle else [row["reward"]]
        is_seed = row["model"] == seed_name and row["rounds"] == 0
        numbers = [
            text
            for j in judged
            for text in (f"{j['mean'][0]:.3f}", "-" if is_seed else _interval(j["over_seed"]))
        ]
        recursive = row["rounds"] is None
        failed = f"{row['failed']:.1%}" if row["rounds"] or recursive else "-"
        name = row["model"] if recursive else f"{row['model']} r{row['rounds']}"
        lines.append((name, *numbers, f"{row['words']:.1f}", failed))
    words = f"{unscored} refinements got no reward and count as failed" if unscored else None
    return Rows(
        f"Held-out prompts ({rows[0]['num_prompts']}); r_k: k rounds of self-refinement;"
        " [95% interval]",
        ("model", *oracle, "reward", "over the seed", "words", "failed"),
        tuple(lines),
        caption=words,
    )


def _check_any(both: Sequence[Any], name: str, seed_name: str) -> None:
    if not both:
        raise RuntimeError(f"no held-out prompt was answered by both {name} and {seed_name}")


def _after(tree: RefinementTree, rounds: int) -> Judged:
    answer = tree.after(rounds)
    return Judged(tree.prompt.query[-1].content, answer.text, reward_of(answer))


def _interval(estimate: Sequence[float]) -> str:
    mean, low, high = estimate
    return f"{mean:+.3f} \\[{low:+.3f}, {high:+.3f}]"
