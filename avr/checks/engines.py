"""Check engines in hosts, as jobs have them: texts, reloaded weights, rewards."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray

from avr.checks.machines import machines, working
from avr.checks.models import prepared
from avr.checks.outcome import CheckFailed, Finding, Skipped, cause
from avr.checks.reference import QUERY, Greedy
from avr.checks.settings import GpuCheckConfig
from avr.config.roles import RoleConfig, is_reward_model
from avr.core.messages import Conversation
from avr.core.roles import Completion
from avr.engines.parity import PROBES, reference_rewards
from avr.hosting.cluster import place
from avr.hosting.host import Host, Hosted
from avr.hosting.release import ReleaseError, wait_until_released
from avr.hosting.witness import told, witness_beside_driver
from avr.plan.resources import StepPlan, engines, gpus_of
from avr.storage import Location
from avr.terminal import indented

GREEDY = {"max_tokens": 24, "temperature": 0.0}
NUM_SAMPLES = 2
SEED = 5
STOP_S = 60.0


@ray.remote
class HostedEngine:
    """Host one engine in a process of its own, as a pool does."""

    def __init__(self, hosted: Hosted, witness: Any):
        self._host = Host(hosted, witness)

    async def ready(self) -> None:
        """Return once the engine has started."""

    async def generate(
        self, model: str, sampling: Mapping[str, Any] | None, n: int
    ) -> tuple[Completion, ...]:
        """Generate `n` answers to `QUERY` with the weights of `model`, from one fixed seed."""

        async def call(engine: Any) -> tuple[Completion, ...]:
            async with engine.serving(model):
                answers: tuple[Completion, ...] = await engine.generate(QUERY, n, SEED, sampling)
                return answers

        return await self._host.use(call)

    async def score(self, conversation: Conversation) -> float:
        """Score a conversation; the first call checks the rewards of the parity probes."""
        return await self._host.use(lambda engine: engine.score(conversation))

    async def stop(self) -> None:
        """End the engine's processes and free its devices."""
        self._host.shutdown()


class EngineChecks:
    """Run the checks that need engines; the first starts the policy's engine, `stop` ends it."""

    def __init__(self, config: GpuCheckConfig, folder: Location, reference: Any):
        self._config, self._folder, self._reference = config, folder, reference
        self._witness = witness_beside_driver()
        self._policy: Any = None
        self._failed = False
        self._model = ""
        self._parallel = 1
        self._greedy: Completion | None = None

    def engine(self) -> Finding:
        """Check that the policy's engine starts, repeats texts under a seed, and agrees with HF.

        HF is Hugging Face, which the engine's greedy text is compared with.
        """
        seconds = self._start_policy()
        # First, so that the prompt is in the cache for both samples, and not for one of them.
        greedy = self._said_greedily(self._model)
        self._greedy = greedy
        samples = [self._ask(self._model, None, NUM_SAMPLES) for _ in range(2)]
        figures = {
            "start_seconds": seconds,
            "tensor_parallel_size": self._parallel,
            "samples": [one.text for one in samples[0]],
        }
        if samples[0] != samples[1]:
            again = [one.text for one in samples[1]]
            raise CheckFailed(
                f"the same seed gave other texts: {figures['samples']} and {again}", figures
            )
        figures |= self._compare(self._model, greedy, figures)
        return Finding(
            f"started in {seconds:.1f} s, tensor_parallel_size {self._parallel}; the same seed gave"
            f" the same texts; greedy text as Hugging Face's{_nearly(figures)}",
            figures,
        )

    def reload(self) -> Finding:
        """Check that the running engine takes over other weights, and goes back to the first.

        With the other weights it must say what Hugging Face says of them.
        """
        self._start_policy()
        before = self._greedy or self._said_greedily(self._model)
        other = self._prepared(self._config.other_model, "other")
        began = time.perf_counter()
        said = self._said_greedily(other)
        seconds = round(time.perf_counter() - began, 3)
        figures: dict[str, Any] = {"seconds": seconds}
        figures |= self._compare(other, said, figures)
        figures["changed"] = said.text != before.text
        again = self._said_greedily(self._model)
        if again.text != before.text:
            raise CheckFailed(
                f"with its first weights again the engine says {again.text!r}, before"
                f" {before.text!r}",
                figures,
            )
        return Finding(
            f"other weights and a text of theirs in {seconds:.2f} s, as Hugging Face's"
            f"{_nearly(figures)}; then the first again",
            figures,
        )

    def rewards(self) -> Finding:
        """Check that the reward model's engine gives Hugging Face's logits.

        This is the check that jobs make.
        """
        # The policy's devices are needed.
        self.stop()
        config = self._config
        role, _ = self._placeable(config.reward_model)
        role = replace(role, model=self._prepared(role.model, "reward", _size_of(role)))
        actor, seconds = self._started("reward_model", role)
        try:
            ours = [_answer(actor.score.remote(probe)) for probe in PROBES]
        except Exception:
            # The error that is on its way has the cause; another one must not replace it.
            with suppress(CheckFailed):
                self._end(actor)
            raise
        self._end(actor)
        dtype = str(role.engine.get("dtype", "auto"))
        reference = reference_rewards(role.model, self._folder / "parity", dtype)
        figures = {"start_seconds": seconds, "rewards": ours, "reference": reference}
        apart = max(abs(a - b) for a, b in zip(ours, reference, strict=True))
        return Finding(
            f"{len(ours)} rewards as Hugging Face's, {apart:.2g} apart at the most; started in "
            f"{seconds:.1f} s",
            figures | {"apart": apart},
        )

    def stop(self) -> None:
        """End the policy's engine."""
        if self._policy is not None:
            actor, self._policy = self._policy, None
            self._end(actor)

    def _end(self, actor: Any) -> None:
        """End an engine and wait until its processes are gone: only then is its device free."""
        # The engine may have ended by itself, or hang.
        with suppress(ray.exceptions.RayError):
            ray.get(actor.stop.remote(), timeout=STOP_S)
        ray.kill(actor)
        try:
            wait_until_released(told(self._witness), STOP_S)
        except ReleaseError as error:
            raise CheckFailed(str(error)) from error

    def _start_policy(self) -> float:
        """Start the policy's engine; return the seconds it took, 0 where it runs already."""
        if self._failed:
            raise Skipped("the policy's engine did not start: see the check named engine")
        if self._policy is not None:
            return 0.0
        self._failed = True
        role, self._parallel = self._placeable(self._config.policy)
        self._model = self._prepared(role.model, "policy", self._parallel)
        self._policy, seconds = self._started("policy", replace(role, model=self._model))
        self._failed = False
        return seconds

    def _placeable(self, role: RoleConfig) -> tuple[RoleConfig, int]:
        """Limit tensor-parallel ranks to one machine's GPUs; return the role and their number."""
        size = _size_of(role)
        if role.use_gpu:
            most = max(int(machine.gpus) for machine in working(machines()))
            size = max(1, min(size, most))
        return replace(role, engine={**role.engine, "tensor_parallel_size": size}), size

    def _prepared(self, model: str, name: str, parallel: int | None = None) -> str:
        to = self._folder / "models" / name
        return str(to) if to.exists() else prepared(model, to, parallel or self._parallel)

    def _started(self, name: str, role: RoleConfig) -> tuple[Any, float]:
        """Start an engine; return it and the seconds it took.

        Raises CheckFailed with the engine's own words.
        """
        config = self._config
        plan = StepPlan(name, (engines(name, role, 0),), True, 0.0)
        place(plan, config.placement_timeout_s, indented)
        hosted = Hosted(
            name=name,
            role=name,
            config=role,
            seed=0,
            folder=self._folder / "engines",
            max_deaths=1,
            parity=config.tolerance if is_reward_model(name) else None,
        )
        began = time.perf_counter()
        # `Any`, because the decorator has made something else of the class.
        hosted_engine: Any = HostedEngine
        actor = hosted_engine.options(num_cpus=role.num_cpus, num_gpus=gpus_of(role)).remote(
            hosted, self._witness
        )
        try:
            ray.get(actor.ready.remote())
        except ray.exceptions.RayActorError as error:
            words = [words for failed, words in told(self._witness).failures if failed == name]
            self._end(actor)
            raise CheckFailed(words[-1] if words else cause(error)) from error
        return actor, round(time.perf_counter() - began, 1)

    def _ask(
        self, model: str, sampling: Mapping[str, Any] | None, n: int
    ) -> tuple[Completion, ...]:
        answers: tuple[Completion, ...] = _answer(self._policy.generate.remote(model, sampling, n))
        return answers

    def _said_greedily(self, model: str) -> Completion:
        (said,) = self._ask(model, GREEDY, 1)
        return said

    def _compare(self, model: str, said: Completion, figures: Mapping[str, Any]) -> dict[str, Any]:
        dtype = str(self._config.policy.engine.get("dtype", "auto"))
        greedy: Greedy = _answer(self._reference.greedy.remote(model, dtype, QUERY, said))
        found = {"greedy": said.text, "hugging_face": greedy.text, "lead": greedy.lead}
        if not greedy.lead <= self._config.tolerance:
            raise CheckFailed(
                f"the engine's greedy text is {said.text!r}, Hugging Face's {greedy.text!r}: it is "
                f"ahead by {greedy.lead:.3f} of a logit, tolerance is {self._config.tolerance:g}",
                {**figures, **found},
            )
        return found


def _answer(asked: Any) -> Any:
    """Return an actor's answer; raise the actor's own error, not the trace around it."""
    get: Callable[[Any], Any] = ray.get
    try:
        return get(asked)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from error


def _size_of(role: RoleConfig) -> int:
    return int(role.engine.get("tensor_parallel_size", 1))


def _nearly(figures: Mapping[str, Any]) -> str:
    lead = figures["lead"]
    return f" but for rounding ({lead:.3f} of a logit)" if lead else ""
