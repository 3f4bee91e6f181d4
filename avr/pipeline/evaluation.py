"""The evaluation step: models answer held-out prompts and refine their own answers r times."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

from avr.config import ConfigError, EvaluationConfig, GrowthConfig
from avr.core.messages import content_id
from avr.core.tree import RefinementTree, plant, reward_of
from avr.evaluation.paired import Estimate, difference, mean_of
from avr.pipeline.dataflow import Seedling, grow
from avr.pipeline.operators import Operator
from avr.pipeline.prompts import ingest, prompts_of
from avr.pipeline.tables import prompt_of, read_rows, read_trees

Oracle = Callable[[str, str], float]


def evaluate(
    config: EvaluationConfig,
    models: Mapping[str, str],
    operators: list[Operator],
    growth: GrowthConfig,
    folder: Path,
    inputs: Mapping[str, Any],
) -> dict[str, Any]:
    """Answer, refine, score; returns the table as plain data (see `_row`).

    All models answer through one pool: its engines load each one's weights in turn, in the order
    of `models`.
    """
    ingested = ingest(
        config.prompts,
        folder / "prompts.parquet",
        folder / "rejected.parquet",
        taken=prompts_of(folder.parent, ("grow_rsft", "grow_dpo")),
    )
    prompts = [prompt_of(row) for row in read_rows(folder / "prompts.parquet")]
    of_model = {
        name: [plant(prompt, content_id(name, dict(inputs))) for prompt in prompts]
        for name in models
    }
    grown = grow(
        (
            Seedling(tree, model, config.rounds.get(name, 0))
            for name, model in models.items()
            for tree in of_model[name]
        ),
        operators,
        growth,
        folder,
    )
    trees = {tree.id: tree for tree in read_trees(folder / "trees")}
    oracle = load_oracle(config.oracle) if config.oracle else None
    answered = {
        name: [trees.get(tree.id) for tree in planted] for name, planted in of_model.items()
    }
    rows = [
        _row(name, rounds, answered, oracle)
        for name in models
        for rounds in range(config.rounds.get(name, 0) + 1)
    ]
    return {"input": asdict(ingested), "growth": asdict(grown), "table": rows}


def load_oracle(name: str) -> Oracle:
    """The function behind "module:function". Raises ConfigError where there is none."""
    module, _, function = name.partition(":")
    try:
        oracle: Oracle = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"evaluation.oracle {name!r} is no module:function: {error}") from error
    return oracle


def _row(
    name: str,
    rounds: int,
    answered: Mapping[str, list[RefinementTree | None]],
    oracle: Oracle | None,
) -> dict[str, Any]:
    """One model after r rounds, against the seed's first answers to the same prompts.

    A prompt counts where both have a tree; `num_prompts` says how many did.
    """
    both = [
        (ours, seed)
        for ours, seed in zip(answered[name], answered["seed"], strict=True)
        if ours is not None and seed is not None
    ]
    if not both:
        raise RuntimeError(f"no held-out prompt was answered by both {name} and the seed")
    answers = [ours.after(rounds) for ours, _ in both]
    refined = sum(_refined_rounds(ours, rounds) for ours, _ in both)
    row: dict[str, Any] = {
        "model": name,
        "rounds": rounds,
        "num_prompts": len(both),
        "words": fmean(len(a.text.split()) for a in answers),
        "failed_rounds": 1 - refined / (rounds * len(both)) if rounds else 0.0,
        "reward": _compared([reward_of(a) for a in answers], [reward_of(s.first) for _, s in both]),
    }
    if oracle is not None:
        queries = [ours.prompt.query[-1].content for ours, _ in both]
        row["oracle"] = _compared(
            [oracle(q, a.text) for q, a in zip(queries, answers, strict=True)],
            [oracle(q, s.first.text) for q, (_, s) in zip(queries, both, strict=True)],
        )
    return row


def _refined_rounds(tree: RefinementTree, rounds: int) -> int:
    """In how many of the first rounds the model did refine its answer."""
    return sum(any(c.refinements for c in level.critiques) for level in tree.levels[:rounds])


def _compared(ours: list[float], seeds: list[float]) -> dict[str, list[float]]:
    return {"mean": _plain(mean_of(ours)), "over_seed": _plain(difference(ours, seeds))}


def _plain(estimate: Estimate) -> list[float]:
    return [estimate.mean, estimate.low, estimate.high]
