"""The operators of the dataflow: actors that host one engine and move trees one step on.

Each is a callable class for `Dataset.map`: one row in, one row out. A row is `{"id", "tree"}`, the
tree as JSON (Arrow would have to guess types of empty levels); evaluation rows also say which
`model` answers and in how many `rounds`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from avr.core.growth import Shape, correct, respond, score, self_refine
from avr.core.prompts import Templates
from avr.core.roles import TreeFault
from avr.core.tree import RefinementTree, tree_from_dict, tree_to_dict
from avr.hosting.host import Host, Hosted
from avr.hosting.witness import Tally

Row = dict[str, Any]


@dataclass(frozen=True)
class Operator:
    """What one pool does, and the engine it does it with; `step` is a key of `STEPS`."""

    step: str
    hosted: Hosted
    templates: Templates
    shape: Shape


async def _respond(engine: Any, tree: RefinementTree, row: Row, op: Operator) -> RefinementTree:
    return await respond(tree, engine, op.templates, op.shape.max_tries)


async def _correct(engine: Any, tree: RefinementTree, row: Row, op: Operator) -> RefinementTree:
    return await correct(tree, engine, op.templates, op.shape)


async def _grow(engine: Any, tree: RefinementTree, row: Row, op: Operator) -> RefinementTree:
    """Policy and corrector are one model: both steps in its one pool."""
    return await _correct(engine, await _respond(engine, tree, row, op), row, op)


async def _score(engine: Any, tree: RefinementTree, row: Row, op: Operator) -> RefinementTree:
    return await score(tree, engine)


async def _answer(engine: Any, tree: RefinementTree, row: Row, op: Operator) -> RefinementTree:
    """Answer, then refine the own answer r times, with the weights the row asks for."""
    async with engine.serving(row["model"]):
        return await self_refine(tree, engine, op.templates, op.shape, row["rounds"])


Step = Callable[[Any, RefinementTree, Row, Operator], Awaitable[RefinementTree]]
STEPS: dict[str, Step] = {
    "respond": _respond,
    "correct": _correct,
    "grow": _grow,
    "score": _score,
    "answer": _answer,
}


class Worker:
    """One replica of an operator's pool.

    It is given blocks with more rows than its engine should have in flight, and takes them up row
    by row: a block is handed on with its last tree, and the others' places must not wait for it.
    """

    def __init__(self, operator: Operator, witness: Any):
        self._op = operator
        self._room = asyncio.Semaphore(operator.hosted.config.max_rows_per_replica)
        self._host = Host(operator.hosted, witness)
        self._tally = Tally(witness, operator.step)

    async def __call__(self, row: Row) -> Row:
        """Move one tree on. A tree that cannot go on is marked and travels on untouched."""
        tree = tree_from_dict(json.loads(row["tree"]))
        if not tree.quarantined:
            async with self._room:
                tree = await self._advance(tree, row)
        self._tally.add()
        return {**row, "tree": json.dumps(tree_to_dict(tree))}

    async def _advance(self, tree: RefinementTree, row: Row) -> RefinementTree:
        step = STEPS[self._op.step]
        try:
            return await self._host.use(lambda engine: step(engine, tree, row, self._op))
        except TreeFault as error:
            return replace(tree, quarantined=f"{self._op.step}: {error}")
