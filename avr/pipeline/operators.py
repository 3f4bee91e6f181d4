"""The operators of the dataflow: actors that host one engine and move trees one step on.

Each is a callable class for `Dataset.map`: one row in, one row out. A row is `{"id", "tree"}`, the
tree as JSON (Arrow would have to guess types of empty levels); evaluation rows also say which
`model` answers and in how many `rounds`.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avr.config import RoleConfig
from avr.core.growth import Shape, correct, respond, score
from avr.core.prompts import Templates
from avr.core.roles import ContextTooLong, TreeFault
from avr.core.tree import RefinementTree, tree_from_dict, tree_to_dict
from avr.pipeline.witness import Tally, redirect_output, root_cause

Row = dict[str, Any]


@dataclass(frozen=True)
class Operator:
    """What one pool does, and the engine it does it with.

    `step` is a key of `STEPS`; `role` names the model in errors and logs. `parity` is None or the
    tolerance of the reward check, `folder` takes logs and the parity cache.
    """

    step: str
    role: str
    config: RoleConfig
    templates: Templates
    shape: Shape
    seed: int
    folder: Path
    max_deaths: int
    parity: float | None = None


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
        tree = await respond(tree, engine, op.templates, op.shape.max_tries)
        for _ in range(row["rounds"]):
            try:
                tree = await correct(tree, engine, op.templates, op.shape)
            except ContextTooLong:  # the answers so far still count; the round has failed
                break
        return tree


Step = Callable[[Any, RefinementTree, Row, Operator], Awaitable[RefinementTree]]
STEPS: dict[str, Step] = {
    "respond": _respond,
    "correct": _correct,
    "grow": _grow,
    "score": _score,
    "answer": _answer,
}


class Worker:
    """One replica of an operator's pool."""

    def __init__(self, operator: Operator, witness: Any):
        self._op = operator
        self._witness = witness
        self._log = operator.folder / "logs" / f"{operator.step}-{operator.role}-{os.getpid()}.log"
        redirect_output(self._log)
        os.environ.update(operator.config.env)
        self._tally = Tally(witness, operator.step)
        self._checked = asyncio.Lock()
        self._reference = _reference(operator) if operator.parity is not None else None
        # Imported here: vLLM reads its environment on import, and the driver never needs it.
        from avr.engines.engine import Engine

        try:
            self._engine = Engine(operator.role, operator.config, operator.seed)
        except RuntimeError as error:
            cause = root_cause(self._log)
            raise RuntimeError(f"the {operator.role}'s engine did not start: {cause}") from error

    async def __call__(self, row: Row) -> Row:
        """Move one tree on. A tree that cannot go on is marked and travels on untouched."""
        tree = tree_from_dict(json.loads(row["tree"]))
        if not tree.quarantined:
            tree = await self._advance(tree, row)
        self._tally.add()
        return {**row, "tree": json.dumps(tree_to_dict(tree))}

    async def _advance(self, tree: RefinementTree, row: Row) -> RefinementTree:
        from vllm.exceptions import VLLMValidationError
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await self._check_parity()
            return await STEPS[self._op.step](self._engine, tree, row, self._op)
        except (TreeFault, VLLMValidationError) as error:
            return replace(tree, quarantined=f"{self._op.step}: {error}")
        except EngineDeadError as error:
            self._die(error)

    def _die(self, error: Exception) -> None:
        """End the process, so that Ray replaces the actor and retries its trees on the new one.

        Raising would retry on the same dead engine for ever; after `max_deaths` it is what ends
        the job.
        """
        import ray

        cause = root_cause(self._log)
        try:
            told = self._witness.died.remote(self._op.role, cause)
            deaths = ray.get(told, timeout=30)
        except ray.exceptions.RayError:  # no witness left: the retry still stands
            os._exit(1)
        if deaths < self._op.max_deaths:
            os._exit(1)
        raise RuntimeError(
            f"{deaths} engines of the {self._op.role} died; last: {cause}"
        ) from error

    async def _check_parity(self) -> None:
        """Once, before the first reward: agree with Hugging Face or stop the run."""
        async with self._checked:
            if self._reference is None:
                return
            from avr.engines.parity import PROBES, check_parity

            assert self._op.parity is not None
            ours = [await self._engine.score(probe) for probe in PROBES]
            check_parity(self._op.config.model, ours, self._reference, self._op.parity)
            self._reference = None


def _reference(operator: Operator) -> list[float]:
    from avr.engines.parity import reference_rewards

    config = operator.config
    return reference_rewards(
        config.model,
        operator.folder / "parity",
        dtype=str(config.engine.get("dtype", "auto")),
        trust_remote_code=config.trust_remote_code,
    )
