"""Define the dataflow's operators: actors that host one engine and take trees one step further.

Each is a callable class for `Dataset.map`: one row in, one row out. A row is `{"id", "tree"}`, with
the tree as JSON (Arrow would have to guess types of empty levels).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from avr.core.growth import Shape, correct, respond, score
from avr.core.prompts import Templates
from avr.core.reward import Combination, Rewarding, RewardModel
from avr.core.roles import TreeFault
from avr.core.tree import RefinementTree, tree_from_dict, tree_to_dict
from avr.hosting.host import Host, Hosted
from avr.hosting.witness import Tally

Row = dict[str, Any]


def by_reward_model(
    engine: Any, name: str = "classifier", combination: Combination | None = None
) -> Rewarding:
    """Let an engine judge by its logits; it is the only member, unless there is a combination."""
    return Rewarding((RewardModel(name, engine.score),), combination or Combination((name,)))


def by_verifier(engine: Any, combination: Combination) -> Rewarding:
    """Let the verifier judge that stands in the place of an engine."""
    return Rewarding((engine.judge,), combination)


@dataclass(frozen=True)
class Operator:
    """Describe what one pool does to a tree (a key of `ACTS`), and the engine that does it.

    Where it scores, `rewarding` makes of the engine what judges answers; by default the engine is
    the one reward model. A `verifier` judges each answer before it is corrected, in the corrector's
    own process. `judge` is the name of one of several judges.
    """

    act: str
    hosted: Hosted
    templates: Templates
    shape: Shape
    rewarding: Callable[[Any], Rewarding] = by_reward_model
    verifier: Rewarding | None = None
    judge: str = ""

    @property
    def name(self) -> str:
        """Return the name of the operator in progress lines, folders and reasons."""
        return f"{self.act} {self.judge}" if self.judge else self.act


async def _respond(engine: Any, tree: RefinementTree, op: Operator) -> RefinementTree:
    return await respond(tree, engine, op.templates, op.shape.max_tries)


async def _correct(engine: Any, tree: RefinementTree, op: Operator) -> RefinementTree:
    if op.verifier is not None:
        tree = await score(tree, op.verifier)
    return await correct(tree, engine, op.templates, op.shape)


async def _grow(engine: Any, tree: RefinementTree, op: Operator) -> RefinementTree:
    """Answer and correct in one pool, where policy and corrector are one model."""
    return await _correct(engine, await _respond(engine, tree, op), op)


async def _score(engine: Any, tree: RefinementTree, op: Operator) -> RefinementTree:
    return await score(tree, op.rewarding(engine))


Act = Callable[[Any, RefinementTree, Operator], Awaitable[RefinementTree]]
ACTS: dict[str, Act] = {
    "respond": _respond,
    "correct": _correct,
    "grow": _grow,
    "score": _score,
}


class Worker:
    """Carry one replica of an operator's pool.

    It is given blocks with more rows than its engine should have in flight, and takes them up row
    by row. A block is handed on only with its last tree: if whole blocks were let in, the places of
    the trees that end first would stay empty.
    """

    def __init__(self, operator: Operator, witness: Any):
        self._op = operator
        self._room = asyncio.Semaphore(operator.hosted.config.max_rows_per_replica)
        # Starts the engine. An error here is one of the actor's start, which Ray Data tries again.
        self._host = Host(operator.hosted, witness)
        self._tally = Tally(witness, operator.name)

    async def __call__(self, row: Row) -> Row:
        """Take one tree a step further.

        A tree that cannot go on is marked as quarantined; it travels on and is not touched again.
        """
        tree = tree_from_dict(json.loads(row["tree"]))
        if not tree.quarantined:
            async with self._room:
                tree = await self._advance(tree)
        self._tally.add()
        return {**row, "tree": json.dumps(tree_to_dict(tree))}

    async def _advance(self, tree: RefinementTree) -> RefinementTree:
        act = ACTS[self._op.act]
        try:
            return await self._host.use(lambda engine: act(engine, tree, self._op))
        # Only a fault of the tree's own is caught; any other error is everybody's and ends the run.
        except TreeFault as error:
            return replace(tree, quarantined=f"{self._op.name}: {error}")
