"""Host one engine in a process: its log, its reward check, and its end when the engine dies."""

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import ray

from avr.config.roles import LimitsConfig, RoleConfig
from avr.core.roles import EngineDied
from avr.engines.imports import lasting_imports
from avr.engines.settings import environment
from avr.hosting.counted import Counted
from avr.hosting.logs import redirect_output, root_cause
from avr.hosting.release import wait_for_orphans
from avr.storage import Location, is_remote, scratch

T = TypeVar("T")
MakeEngine = Callable[[str, RoleConfig, int], Any]


def vllm_engine(role: str, config: RoleConfig, seed: int) -> Any:
    """Make the real engine.

    It is imported here because vLLM reads its environment on import, and the driver never needs it.
    """
    with lasting_imports():
        from avr.engines.engine import Engine

    return Engine(role, config, seed)


@dataclass(frozen=True)
class Hosted:
    """Describe the engine of one pool, as a host needs to know it.

    `name` is the pool's name in logs; `role` names the model in errors. `parity` is None or the
    tolerance of the reward check. `folder` takes logs; the reference rewards of the check are kept
    beside it, for all steps of a run. The run ends after `max_deaths` engines of the role have
    died, or where the role has no engine for `start_timeout_s` seconds. `make_engine` makes the
    engine; tests of what surrounds engines host scripted ones.
    """

    name: str
    role: str
    config: RoleConfig
    seed: int
    folder: Location
    max_deaths: int
    parity: float | None = None
    make_engine: MakeEngine = vllm_engine
    start_timeout_s: float = LimitsConfig.start_timeout_s


class Host:
    """Run one engine in this process: keep its log, check its rewards, end with it."""

    def __init__(self, hosted: Hosted, witness: Any):
        self._hosted = hosted
        self._witness = witness
        name = _log_name(hosted)
        self._kept_log = hosted.folder / "logs" / name
        folder = self._kept_log.parent
        # An object store cannot append: the log is then on this node, and is copied now and then.
        self._log = scratch() / "logs" / name if is_remote(folder) else folder / name
        redirect_output(self._log)
        os.environ.update(environment(hosted.config))
        self._checked = asyncio.Lock()
        self._given_up = ""
        # Told before the start as well as after it: the start may be cut short.
        self._tell_processes()
        if hopeless := self._hopeless():
            raise RuntimeError(hopeless)
        # Processes of an engine that was killed may still hold the device.
        wait_for_orphans(witness, _here()[0])
        try:
            self._reference = _reference(hosted) if hosted.parity is not None else None
            engine = hosted.make_engine(hosted.role, hosted.config, hosted.seed)
            self._engine = Counted(engine, witness)
        except Exception as error:
            # A RuntimeError of vLLM's only points at the log; any other error names its cause.
            words = self._cause() if type(error) is RuntimeError else str(error)
            cause = f"the {hosted.role}'s engine did not start: {words}"
            witness.failed.remote(hosted.role, cause, _here())
            raise RuntimeError(cause) from error
        witness.ready.remote(hosted.role, _here())
        self._tell_processes()
        self._keep_log()

    async def use(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """Return the result of `call(engine)`; an engine that has died takes this process along."""
        try:
            await self._check_parity()
            return await call(self._engine)
        except EngineDied as error:
            self._die(error)
            raise

    async def check_health(self) -> None:
        """Find an engine that has died while nobody asked it anything."""
        try:
            await self._engine.check_health()
        except EngineDied as error:
            self._die(error)

    def shutdown(self) -> None:
        """Stop the engine's processes and free its device."""
        self._engine.shutdown()
        self._keep_log()

    def _cause(self) -> str:
        """Return the cause that the log shows; keep the log, as this node may be gone soon."""
        self._keep_log()
        return f"{root_cause(self._log)} (log: {self._kept_log})"

    def _keep_log(self) -> None:
        """Copy the log to the object store, where logs go to one: nothing can be appended there.

        It is called when the engine has started, when it is stopped, and when it or its start has
        failed.
        """
        if is_remote(self._kept_log):
            # An error of the store must not hide the error that the log is about.
            with suppress(Exception):
                self._kept_log.fs.put_file(str(self._log), self._kept_log.path)

    def _hopeless(self) -> str:
        """Return the reason not to start, or "".

        Ray Data retries an actor that failed to start, and each try may cost a minute.
        """
        try:
            return str(ray.get(self._witness.starts.remote(self._hosted.role), timeout=30))
        except ray.exceptions.RayError:
            # There is no witness left: the start will show whether it works.
            return ""

    def _tell_processes(self) -> None:
        children = [child.pid for child in psutil.Process().children(recursive=True)]
        told = (self._hosted.role, children, str(self._log), time.time())
        self._witness.hosted.remote(*_here(), *told)

    def _die(self, error: Exception) -> None:
        """End the process, so that Ray replaces it and its work is repeated on the new one.

        If it raised, Ray would retry on the same dead engine for ever. After `max_deaths` it does
        raise, which ends the job.
        """
        cause = self._cause()
        role, most = self._hosted.role, self._hosted.max_deaths
        if self._given_up:
            raise RuntimeError(self._given_up) from error
        try:
            deaths = ray.get(self._witness.died.remote(role, cause, _here()), timeout=30)
        except ray.exceptions.RayError:
            # There is no witness left to count: Ray still repeats the work elsewhere.
            os._exit(1)
        # `_exit` and not an error: whoever started this process sees it die, and replaces it.
        if deaths < most:
            os._exit(1)
        self._given_up = (
            f"stopped: {deaths} engines of the {role} died (max_engine_deaths); last: {cause}"
        )
        raise RuntimeError(self._given_up) from error

    async def _check_parity(self) -> None:
        """Check once, before the first reward, that rewards agree with Hugging Face's.

        Where they do not, the run stops.
        """
        async with self._checked:
            if self._reference is None:
                return
            from avr.engines.parity import PROBES, check_parity

            assert self._hosted.parity is not None
            ours = [await self._engine.score(probe) for probe in PROBES]
            check_parity(self._hosted.config.model, ours, self._reference, self._hosted.parity)
            self._reference = None


def _here() -> tuple[str, int]:
    """Return the id of this process's node, and its process id."""
    return ray.get_runtime_context().get_node_id(), os.getpid()


def _log_name(hosted: Hosted) -> str:
    """Make a name for the log of this process alone.

    Process ids come again on other nodes and in later runs, so the name has random characters, too.
    """
    return f"{hosted.name}-{hosted.role}-{os.getpid()}-{uuid.uuid4().hex[:6]}.log"


def _reference(hosted: Hosted) -> list[float]:
    from avr.engines.parity import reference_rewards

    config = hosted.config
    return reference_rewards(
        config.model,
        hosted.folder.parent / "parity",
        dtype=str(config.engine.get("dtype", "auto")),
        trust_remote_code=config.trust_remote_code,
    )
