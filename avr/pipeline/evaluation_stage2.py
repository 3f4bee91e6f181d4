"""Stage II on held-out prompts: models that refine when asked, and models that do so unasked."""

from collections.abc import Mapping
from dataclasses import asdict
from statistics import fmean
from typing import Any

from avr.config.stage2 import Stage2Config
from avr.config.texts import template_of
from avr.core.growth import Shape
from avr.core.messages import content_id
from avr.core.outputs import Output, OutputSet, open_set
from avr.core.prompts import Templates
from avr.core.tree import Prompt, RefinementTree, plant
from avr.data import tables
from avr.evaluation.judged import Judged, Oracle, compare, load_oracle
from avr.pipeline.evaluation import judged, num_unscored, refined_row
from avr.serving.journal import Place
from avr.serving.pools import Pools
from avr.serving.queries import EnginePools, run_queries
from avr.serving.works import AnswerAndRefine, SampleOutputs, set_query, tree_query
from avr.storage import Location


def answering(config: Stage2Config, pools: Pools, models: Mapping[str, str]) -> AnswerAndRefine:
    """Ask models, by name, to refine their own answers round by round."""
    tree = config.tree
    return AnswerAndRefine(
        policies={name: pools.generate("policy", model) for name, model in models.items()},
        reward_model=pools.score(),
        templates=Templates(**asdict(config.templates)),
        shape=Shape(1, 1, tree.max_tries, follow="last", context=tree.context),
    )


def thinking(
    config: Stage2Config, pools: Pools, models: Mapping[str, str], sampling: Mapping[str, Any]
) -> SampleOutputs:
    """Ask recursive models, by name, for one whole output each, with one try."""
    return SampleOutputs(
        policies={n: pools.generate("policy", model, sampling) for n, model in models.items()},
        reward_model=pools.score(),
        templates=Templates(**asdict(config.templates)),
        template=template_of(config.trajectories),
        num_outputs=1,
        max_tries=1,
        failures_count=True,
    )


def evaluate(
    config: Stage2Config,
    folder: Location,
    recipe: str,
    answer: AnswerAndRefine,
    think: SampleOutputs,
    pools: EnginePools,
    witness: Any,
) -> dict[str, Any]:
    """What became of the queries, and the table: one row for each model and round.

    A recursive model has no rounds, and one try: an output without a final answer is an empty
    answer, as its user would have it.
    """
    assert config.evaluation is not None
    rounds = config.evaluation.rounds
    prompts = [tables.prompt_of(row) for row in tables.read_rows(folder / "prompts.parquet")]
    planted = {n: [plant(p, content_id(n, recipe)) for p in prompts] for n in answer.policies}
    opened = {n: [open_set(p, content_id(n, recipe)) for p in prompts] for n in think.policies}
    refining, recursive = folder / "refining", folder / "recursive"
    asked = run_queries(
        (tree_query(tree, n, rounds.get(n, 0)) for n, trees in planted.items() for tree in trees),
        answer,
        pools,
        config.queries,
        Place(refining, "trees", tables.TREES),
        "answer",
        witness,
    )
    thought = run_queries(
        (set_query(outputs, n) for n, sets in opened.items() for outputs in sets),
        think,
        pools,
        config.queries,
        Place(recursive, "outputs", tables.OUTPUTS),
        "think",
        witness,
    )
    trees = {tree.id: tree for tree in tables.read_trees(refining / "trees")}
    sets = {outputs.id: outputs for outputs in tables.read_sets(recursive / "outputs")}
    oracle = load_oracle(config.evaluation.oracle)
    answered = {n: [trees.get(tree.id) for tree in planted[n]] for n in planted}
    rows = [
        refined_row(n, k, answered, oracle)
        for n in answer.policies
        for k in range(rounds.get(n, 0) + 1)
    ]
    whole = {n: [sets.get(outputs.id) for outputs in opened[n]] for n in opened}
    rows += [_recursive_row(n, whole[n], answered["seed"], oracle) for n in whole]
    return {
        "refining": asdict(asked),
        "recursive": asdict(thought),
        "num_unscored": num_unscored(trees.values()),
        "table": rows,
    }


def _recursive_row(
    name: str,
    thought: list[OutputSet | None],
    seed: list[RefinementTree | None],
    oracle: Oracle | None,
) -> dict[str, Any]:
    both = [
        (ours, theirs)
        for ours, theirs in zip(thought, seed, strict=True)
        if ours is not None and theirs is not None
    ]
    if not both:
        raise RuntimeError(f"no held-out prompt was answered by both {name} and the seed")
    outputs = [_only(ours) for ours, _ in both]
    judged_outputs = [_judged(ours.prompt, o) for (ours, _), o in zip(both, outputs, strict=True)]
    return {
        "model": name,
        "rounds": None,
        "failed": fmean(bool(output.failure) for output in outputs),
        "turns": fmean(output.num_turns for output in outputs),
        "tokens": fmean(output.num_tokens for output in outputs),
        **compare(judged_outputs, [judged(theirs, 0) for _, theirs in both], oracle),
    }


def _only(outputs: OutputSet) -> Output:
    (output,) = (*outputs.outputs, *outputs.failures)
    return output


def _judged(prompt: Prompt, output: Output) -> Judged:
    assert output.reward is not None
    return Judged(prompt.query[-1].content, output.answer, output.reward)
