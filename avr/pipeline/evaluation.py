"""The evaluation step: models answer held-out prompts and refine their own answers r times."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from avr.config.answers import EvaluationConfig
from avr.config.roles import GrowthConfig
from avr.core.messages import content_id
from avr.core.tree import RefinementTree, plant, reward_of
from avr.data.prompt_sets import ingest, prompts_of
from avr.data.schemas import prompt_of
from avr.data.tables import read_rows, read_trees
from avr.dataflow.grow import Seedling, grow
from avr.dataflow.operators import Operator
from avr.evaluation.judged import Judged, Oracle, compare, load_oracle
from avr.storage import Location


def evaluate(
    config: EvaluationConfig,
    models: Mapping[str, str],
    operators: list[Operator],
    growth: GrowthConfig,
    folder: Location,
    inputs: Mapping[str, Any],
    placed: Callable[[], AbstractContextManager[None]],
    on_commit: Callable[[], None],
) -> dict[str, Any]:
    """Answer, refine, score; returns the table as plain data (see `refined_row`).

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
        placed,
        on_commit,
    )
    trees = {tree.id: tree for tree in read_trees(folder / "trees")}
    oracle = load_oracle(config.oracle)
    answered = {
        name: [trees.get(tree.id) for tree in planted] for name, planted in of_model.items()
    }
    rows = [
        refined_row(name, rounds, answered, oracle)
        for name in models
        for rounds in range(config.rounds.get(name, 0) + 1)
    ]
    return {
        "input": asdict(ingested),
        "growth": asdict(grown),
        "num_unscored": num_unscored(trees.values()),
        "table": rows,
    }


def refined_row(
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
    refined = sum(_refined_rounds(ours, rounds) for ours, _ in both)
    return {
        "model": name,
        "rounds": rounds,
        "failed": 1 - refined / (rounds * len(both)) if rounds else 0.0,
        **compare(
            [judged(ours, rounds) for ours, _ in both],
            [judged(seed, 0) for _, seed in both],
            oracle,
        ),
    }


def judged(tree: RefinementTree, rounds: int) -> Judged:
    """The tree's answer after so many rounds, to be compared."""
    answer = tree.after(rounds)
    return Judged(tree.prompt.query[-1].content, answer.text, reward_of(answer))


def num_unscored(trees: Iterable[RefinementTree]) -> int:
    """How many refinements the reward model failed on; each counts as a round that failed."""
    return sum(level.num_unscored for tree in trees for level in tree.levels)


def _refined_rounds(tree: RefinementTree, rounds: int) -> int:
    """In how many of the first rounds the model did refine its answer."""
    return sum(any(c.refinements for c in level.critiques) for level in tree.levels[:rounds])
