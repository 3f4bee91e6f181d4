"""Do a task's work on one query: search it, sample whole outputs, answer and refine, or score.

Each work is a frozen value that travels to the tasks: called with a query it gives the finished
row. A query that cannot be finished comes back marked with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from avr.core.growth import Shape, score, self_refine
from avr.core.outputs import (
    OutputSet,
    sample_outputs,
    score_failures,
    score_outputs,
    set_from_dict,
    set_to_dict,
)
from avr.core.own_judge import OwnJudge, judge_outputs
from avr.core.prompts import Templates
from avr.core.roles import Generate, Score, TreeFault
from avr.core.search import search
from avr.core.trajectory import TrajectoryTemplate
from avr.core.tree import RefinementTree, tree_from_dict, tree_to_dict
from avr.serving.journal import Query


def tree_query(tree: RefinementTree, model: str = "", rounds: int = 0) -> Query:
    """Make a query of a tree: for `SearchTree`, `ScoreTree`, or `AnswerAndRefine` by `model`."""
    return {"id": tree.id, "model": model, "rounds": rounds, "tree": tree_to_dict(tree)}


def set_query(outputs: OutputSet, model: str) -> Query:
    """Make a query of a set of outputs: for `ScoreSet`, or `SampleOutputs` by `model`."""
    return {"id": outputs.id, "model": model, "set": set_to_dict(outputs)}


@dataclass(frozen=True)
class SearchTree:
    """The search of a planted tree, to `max_depth`."""

    policy: Generate
    reward_model: Score
    templates: Templates
    shape: Shape
    max_depth: int

    async def __call__(self, query: Query) -> Query:
        """Search the tree of `query["tree"]` and return it."""
        tree = tree_from_dict(query["tree"])
        try:
            tree = await search(
                tree, self.policy, self.reward_model, self.templates, self.shape, self.max_depth
            )
        # Any other error is not this query's own: it fails the task, and with it the step.
        except TreeFault as error:
            tree = replace(tree, quarantined=f"search: {error}")
        return tree_to_dict(tree)


@dataclass(frozen=True)
class SampleOutputs:
    """The sampling of whole outputs by the model that `query["model"]` names.

    Outputs are scored unless nobody judges. With `failures_count` a failure is judged as an empty
    answer, for evaluation. With an `own_judge` the model itself judges, and no reward model.
    """

    policies: Mapping[str, Generate]
    reward_model: Score | None
    templates: Templates
    template: TrajectoryTemplate
    num_outputs: int
    max_tries: int
    failures_count: bool = False
    own_judge: OwnJudge | None = None

    async def __call__(self, query: Query) -> Query:
        """Fill the set of `query["set"]` with outputs and return it."""
        outputs = set_from_dict(query["set"])
        policy = self.policies[query["model"]]
        try:
            outputs = await sample_outputs(
                outputs, policy, self.templates, self.template, self.num_outputs, self.max_tries
            )
            if self.own_judge is not None:
                outputs = await judge_outputs(outputs, policy, self.templates, self.own_judge)
            elif self.reward_model is not None:
                outputs = await score_outputs(outputs, self.reward_model)
                if self.failures_count:
                    outputs = await score_failures(outputs, self.reward_model)
        except TreeFault as error:
            outputs = replace(outputs, quarantined=f"sample: {error}")
        return set_to_dict(outputs)


@dataclass(frozen=True)
class AnswerAndRefine:
    """The answer r_0 of a model and `query["rounds"]` refinements of its own.

    All are scored unless nobody judges. A tree that has an answer already keeps it as its r_0.
    """

    policies: Mapping[str, Generate]
    reward_model: Score | None
    templates: Templates
    shape: Shape

    async def __call__(self, query: Query) -> Query:
        """Answer and refine in the tree of `query["tree"]`, one level a round, and return it."""
        tree, policy = tree_from_dict(query["tree"]), self.policies[query["model"]]
        try:
            tree = await self_refine(tree, policy, self.templates, self.shape, query["rounds"])
            if self.reward_model is not None:
                tree = await score(tree, self.reward_model)
        except TreeFault as error:
            tree = replace(tree, quarantined=f"answer: {error}")
        return tree_to_dict(tree)


@dataclass(frozen=True)
class ScoreTree:
    """The rewards of a tree that was answered and refined before, with no reward model at hand."""

    reward_model: Score

    async def __call__(self, query: Query) -> Query:
        """Score the tree of `query["tree"]` and return it; a quarantined one stays as it is."""
        tree = tree_from_dict(query["tree"])
        if not tree.quarantined:
            try:
                tree = await score(tree, self.reward_model)
            except TreeFault as error:
                tree = replace(tree, quarantined=f"score: {error}")
        return tree_to_dict(tree)


@dataclass(frozen=True)
class ScoreSet:
    """The rewards of outputs that were sampled before; a failure is judged as an empty answer."""

    reward_model: Score

    async def __call__(self, query: Query) -> Query:
        """Score the set of `query["set"]` and return it; a quarantined one stays as it is."""
        outputs = set_from_dict(query["set"])
        if not outputs.quarantined:
            try:
                outputs = await score_outputs(outputs, self.reward_model)
                outputs = await score_failures(outputs, self.reward_model)
            except TreeFault as error:
                outputs = replace(outputs, quarantined=f"score: {error}")
        return set_to_dict(outputs)
