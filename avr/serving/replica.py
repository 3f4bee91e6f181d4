"""Host one engine as a replica of a Ray Serve deployment, and call it from elsewhere."""

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

# The errors that a caller sees where a replica ended under its request. An error that the request
# itself raised is none of these.
_REPLICA_LOST = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError)
_RETRY_EVERY_S = 1.0
# How long the witness has to be dead before a pool takes itself down; see `check_health`.
_ORPHANED_FOR_S = 20.0


class Replica:
    """Put one `Host` on Serve, which checks, restarts and scales it."""

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
        """Generate with the weights of `model`; see `Generate.generate`."""

        async def call(engine: Any) -> tuple[Completion, ...]:
            # Other requests may ask for other weights: the engine keeps these until this one ends.
            async with engine.serving(model):
                texts: tuple[Completion, ...]
                texts = await engine.generate(conversation, n, seed, sampling)
                return texts

        return await self._host.use(call)

    async def score(self, conversation: Conversation) -> float:
        """Return the engine's raw logit of a conversation that ends with an answer."""
        return await self._host.use(lambda engine: engine.score(conversation))

    async def identity(self, model: str, sampling: Mapping[str, Any] | None) -> str:
        """Return the role's identity on these weights.

        The first call checks rewards, where that is asked for.
        """

        async def call(engine: Any) -> str:
            return str(engine.identity_of(model, sampling))

        return await self._host.use(call)

    async def check_health(self) -> None:
        """Check the engine's health for Serve; take the pool down where its job is gone.

        That frees its device. Serve's applications outlive the job that started them; the witness
        does not. A witness that cannot be reached for a moment means nothing. Word of its death
        means nothing either, by itself: to a process whose own node has died everyone else may seem
        dead, but such a process ends in seconds.
        """
        try:
            await self._witness.report.remote()
            self._orphaned = None
        except ActorDiedError:
            self._orphaned = self._orphaned or time.monotonic()
            if time.monotonic() - self._orphaned > _ORPHANED_FOR_S:
                # In a thread, as the call blocks; and not waited for, as it ends this replica too.
                await asyncio.to_thread(serve.delete, self._app, _blocking=False)
        except ActorUnavailableError:
            pass
        await self._host.check_health()

    def __del__(self) -> None:
        # Serve calls this when it stops a replica. After a start that failed there is no host.
        host = getattr(self, "_host", None)
        if host is not None:
            host.shutdown()


@cache
def handle_of(app: str) -> Any:
    """Return this process's handle of an application.

    There is one for each process and application: every handle has a router, which watches the
    replicas for itself.
    """
    return serve.get_app_handle(app)


async def call_replica(app: str, method: str, patience_s: float, *arguments: Any) -> Any:
    """Call a replica; where it ends under the request, try again on another.

    Retries go on until `patience_s` seconds, the time that a replacement may take, have passed
    since the first of the calls that were lost at once. How often engines may die is for the
    witness to count, and whether the pool can come back is for `Pools.check` to see.
    """
    first_lost: float | None = None
    while True:
        asked = time.monotonic()
        try:
            return await getattr(handle_of(app), method).remote(*arguments)
        except RayTaskError as error:
            # Raise what the replica raised, not the trace around it.
            raise (error.cause if isinstance(error.cause, Exception) else error) from error
        except _REPLICA_LOST:
            lost = time.monotonic()
            # A call that ran for a while had found a living replica: the clock starts again.
            if first_lost is None or lost - asked > _RETRY_EVERY_S:
                first_lost = lost
            if lost - first_lost > patience_s:
                raise
            await asyncio.sleep(_RETRY_EVERY_S)


@dataclass(frozen=True)
class RemoteGenerate:
    """Ask the replicas of `app` to generate, on the weights of `model`."""

    app: str
    model: str
    sampling: Mapping[str, Any] | None
    identity: str
    patience_s: float

    async def generate(
        self, conversation: Conversation, n: int, seed: int
    ) -> tuple[Completion, ...]:
        """Generate on a replica; see `avr.core.roles.Generate`."""
        arguments = (self.model, self.sampling, conversation, n, seed)
        completions: tuple[Completion, ...] = await call_replica(
            self.app, "generate", self.patience_s, *arguments
        )
        return completions


async def remote_logit(app: str, patience_s: float, conversation: Conversation) -> float:
    """Return a reward model's raw logit of a conversation, from a replica of `app`."""
    return float(await call_replica(app, "score", patience_s, conversation))
