"""One engine as a replica of a Ray Serve deployment, and the roles that call it from elsewhere."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ray import serve
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from avr.core.messages import Conversation
from avr.core.roles import Completion
from avr.hosting.host import Host, Hosted

# What a caller sees of a replica that ended under its request. Errors of the request itself arrive
# as themselves.
_REPLICA_LOST = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError)
_RETRY_EVERY_S = 1.0
_ORPHANED_FOR_S = 20.0


class Replica:
    """Serve's health checks, restarts and autoscaling around one `Host`."""

    def __init__(self, app: str, hosted: Hosted, witness: Any):
        self._app = app
        self._witness = witness
        self._orphaned: float | None = None
        self._host = Host(hosted, witness)

    async def generate(
        self,
        model: str,
        sampling: Mapping[str, Any] | None,
        conversation: Conversation,
        n: int,
        seed: int,
    ) -> tuple[Completion, ...]:
        """`Generate.generate` with the weights of `model`."""

        async def call(engine: Any) -> tuple[Completion, ...]:
            async with engine.serving(model):
                texts: tuple[Completion, ...]
                texts = await engine.generate(conversation, n, seed, sampling)
                return texts

        return await self._host.use(call)

    async def score(self, conversation: Conversation) -> float:
        """`Score.score`."""
        return await self._host.use(lambda engine: engine.score(conversation))

    async def identity(self, model: str, sampling: Mapping[str, Any] | None) -> str:
        """The role's identity on these weights; the first call checks rewards, where asked for."""

        async def call(engine: Any) -> str:
            return str(engine.identity_of(model, sampling))

        return await self._host.use(call)

    async def check_health(self) -> None:
        """Serve's health check. A pool whose job is gone takes itself down, and frees its device.

        Serve's applications outlive the job that started them; the witness does not. That it
        cannot be reached for a moment means nothing, and neither does word of its death by itself:
        to a process whose own node has died everyone else may seem dead, but it ends in seconds.
        """
        try:
            await self._witness.report.remote()
            self._orphaned = None
        except ActorDiedError:
            self._orphaned = self._orphaned or time.monotonic()
            if time.monotonic() - self._orphaned > _ORPHANED_FOR_S:
                await asyncio.to_thread(serve.delete, self._app, _blocking=False)
        except ActorUnavailableError:
            pass
        await self._host.check_health()

    def __del__(self) -> None:
        host = getattr(self, "_host", None)
        if host is not None:
            host.shutdown()


@cache
def handle_of(app: str) -> Any:
    """One router per process and application: each one watches the replicas for itself."""
    return serve.get_app_handle(app)


async def call_replica(app: str, method: str, patience_s: float, *arguments: Any) -> Any:
    """Call a replica; one that ends under the request costs a retry on another.

    Retries go on until `patience_s`, the time that a replacement may take, have passed since the
    first of calls that were lost at once: how often engines may die is for the witness to count,
    and whether the pool can come back for `Pools.check`.
    """
    first_lost: float | None = None
    while True:
        asked = time.monotonic()
        try:
            return await getattr(handle_of(app), method).remote(*arguments)
        except RayTaskError as error:  # what the replica raised, not the trace around it
            raise (error.cause if isinstance(error.cause, Exception) else error) from error
        except _REPLICA_LOST:
            lost = time.monotonic()
            if first_lost is None or lost - asked > _RETRY_EVERY_S:  # this call did run for a while
                first_lost = lost
            if lost - first_lost > patience_s:
                raise
            await asyncio.sleep(_RETRY_EVERY_S)


@dataclass(frozen=True)
class RemoteGenerate:
    """A `Generate` whose engines are the replicas of `app`, on the weights of `model`."""

    app: str
    model: str
    sampling: Mapping[str, Any] | None
    identity: str
    patience_s: float

    async def generate(
        self, conversation: Conversation, n: int, seed: int
    ) -> tuple[Completion, ...]:
        """See `avr.core.roles.Generate`."""
        arguments = (self.model, self.sampling, conversation, n, seed)
        completions: tuple[Completion, ...] = await call_replica(
            self.app, "generate", self.patience_s, *arguments
        )
        return completions


@dataclass(frozen=True)
class RemoteScore:
    """A `Score` whose engines are the replicas of `app`."""

    app: str
    identity: str
    patience_s: float

    async def score(self, conversation: Conversation) -> float:
        """See `avr.core.roles.Score`."""
        return float(await call_replica(self.app, "score", self.patience_s, conversation))
