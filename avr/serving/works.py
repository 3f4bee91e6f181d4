"""Do a task's work on one query: search it, sample whole outputs, answer and refine, or score.

Each work is a frozen value that travels to the tasks: called with a query it gives the finished
row. A query that cannot be finished comes back marked with the reason.
"""

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
from avr.core.reward import Rewarding
from avr.core.roles import Generate, TreeFault
from avr.core.search import search
from avr.core.trajectory import TrajectoryTemplate
from avr.core.tree import RefinementTree, tree_from_dict, tree_to_dict
from avr.serving.journal import Query


def tree_query(tree: RefinementTree) -> Query:
    """Make a query of a tree: for `SearchTree`, `AnswerAndRefine` or `ScoreTree`."""
    return {"id": tree.id, "tree": tree_to_dict(tree)}


def set_query(outputs: OutputSet) -> Query:
    """Make a query of a set of outputs: for `SampleOutputs` or `ScoreSet`."""
    return {"id": outputs.id, "set": set_to_dict(outputs)}


@dataclass(frozen=True)
class SearchTree:
    """Search a planted tree, to `max_depth`."""

    policy: Generate
    rewarding: Rewarding
    templates: Templates
    shape: Shape
    max_depth: int

    async def __call__(self, query: Query) -> Query:
        """Search the tree of `query["tree"]` and return it."""
        tree = tree_from_dict(query["tree"])
        try:
            tree = await search(
                tree, self.policy, self.rewarding, self.templates, self.shape, self.max_depth
            )
        # Any other error is not this query's own: it fails the task, and with it the step.
        except TreeFault as error:
            tree = replace(tree, quarantined=f"search: {error}")
        return tree_to_dict(tree)


@dataclass(frozen=True)
class SampleOutputs:
    """Sample whole outputs of one model.

    Outputs are scored unless nobody judges. With `failures_count` a failure is judged as an empty
    answer, for evaluation. With an `own_judge` the model itself judges, and nobody else.
    """

    policy: Generate
    rewarding: Rewarding | None
    templates: Templates
    template: TrajectoryTemplate
    num_outputs: int
    max_tries: int
    failures_count: bool = False
    own_judge: OwnJudge | None = None

    async def __call__(self, query: Query) -> Query:
        """Fill the set of `query["set"]` with outputs and return it."""
        outputs = set_from_dict(query["set"])
        policy = self.policy
        try:
            outputs = await sample_outputs(
                outputs, policy, self.templates, self.template, self.num_outputs, self.max_tries
            )
            if self.own_judge is not None:
                outputs = await judge_outputs(outputs, policy, self.templates, self.own_judge)
            elif self.rewarding is not None:
                outputs = await score_outputs(outputs, self.rewarding)
                if self.failures_count:
                    outputs = await score_failures(outputs, self.rewarding)
        except TreeFault as error:
            outputs = replace(outputs, quarantined=f"sample: {error}")
        return set_to_dict(outputs)


@dataclass(frozen=True)
class AnswerAndRefine:
    """Let a model give the answer r_0 and refine it `rounds` times by itself.

    All are scored unless nobody judges. A tree that has an answer already keeps it as its r_0.
    """

    policy: Generate
    rewarding: Rewarding | None
    templates: Templates
    shape: Shape
    rounds: int

    async def __call__(self, query: Query) -> Query:
        """Answer and refine in the tree of `query["tree"]`, one level a round, and return it."""
        tree = tree_from_dict(query["tree"])
        try:
            tree = await self_refine(tree, self.policy, self.templates, self.shape, self.rounds)
            if self.rewarding is not None:
                tree = await score(tree, self.rewarding)
        except TreeFault as error:
            tree = replace(tree, quarantined=f"answer: {error}")
        return tree_to_dict(tree)


@dataclass(frozen=True)
class ScoreTree:
    """Score a tree that was answered and refined before, with no judge at hand."""

    rewarding: Rewarding

    async def __call__(self, query: Query) -> Query:
        """Score the tree of `query["tree"]` and return it; a quarantined one stays as it is."""
        tree = tree_from_dict(query["tree"])
        if not tree.quarantined:
            try:
                tree = await score(tree, self.rewarding)
            except TreeFault as error:
                tree = replace(tree, quarantined=f"score: {error}")
        return tree_to_dict(tree)


@dataclass(frozen=True)
class ScoreSet:
    """Score outputs that were sampled before; a failure is judged as an empty answer."""

    rewarding: Rewarding

    async def __call__(self, query: Query) -> Query:
        """Score the set of `query["set"]` and return it; a quarantined one stays as it is."""
        outputs = set_from_dict(query["set"])
        if not outputs.quarantined:
            try:
                outputs = await score_outputs(outputs, self.rewarding)
                outputs = await score_failures(outputs, self.rewarding)
            except TreeFault as error:
                outputs = replace(outputs, quarantined=f"score: {error}")
        return set_to_dict(outputs)
