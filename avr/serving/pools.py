"""Run pools of engines on Ray Serve: start them side by side, watch them, end them after a step."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ray import serve

from avr.config.roles import RoleConfig, ServingConfig
from avr.core.messages import content_id
from avr.core.reward import RewardModel
from avr.hosting.cluster import FIRST_WORD_S, SAY_EVERY_S
from avr.hosting.host import Hosted
from avr.hosting.release import last_words, wait_until_released
from avr.hosting.witness import told
from avr.plan.resources import gpus_of
from avr.serving.replica import RemoteGenerate, Replica, call_replica, remote_logit
from avr.terminal import CONSOLE


class PoolError(RuntimeError):
    """Signal that a pool does not start, is gone, or has lost too many engines."""


class Pools:
    """Run the engines of a step: inside this context each of `hosted` is a Serve application.

    An application is named after role and folder. `generate` and `score` give the roles that
    algorithm code calls, from any process of the cluster. `on_check` is called now and then while
    work goes on, and may end it by raising. Raises PoolError where engines do not start, with the
    engine's own words.
    """

    def __init__(
        self,
        hosted: list[Hosted],
        serving: ServingConfig,
        witness: Any,
        on_check: Callable[[], None] = lambda: None,
    ):
        # Each job has names of its own: replicas of an earlier job may still be taking down the
        # applications that have its names.
        job = secrets.token_hex(4)
        self._hosted = {f"{_prefix_of(one)}-{job}": one for one in hosted}
        self._serving = serving
        self._witness = witness
        self._on_check = on_check
        self._without: float | None = None
        self._said = 0.0

    def __enter__(self) -> "Pools":
        """Start all pools and wait until each one has its least number of replicas."""
        # No HTTP proxy: only processes of the cluster call the pools.
        serve.start(proxy_location="Disabled")
        try:
            # Pools that nobody uses any more would hold the devices that these need.
            self._delete_leftovers()
            # Not waited for in here: meanwhile `_wait_until_running` looks for engines that failed
            # and says what is missing.
            serve.run_many(
                [
                    serve.RunTarget(self._application(app, one), name=app, route_prefix=None)
                    for app, one in self._hosted.items()
                ],
                wait_for_applications_running=False,
            )
            self._wait_until_running()
        except BaseException as error:
            self._delete_quietly(error)
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Stop all pools and wait until their processes have ended."""
        if error is not None:
            self._delete_quietly(error)
            return
        self._delete()
        # An application that is gone is not enough: devices are free when processes have ended.
        wait_until_released(told(self._witness))

    def generate(
        self, role: str, model: str | None = None, sampling: Mapping[str, Any] | None = None
    ) -> RemoteGenerate:
        """Return the pool's Generate, on its own weights and sampling or on others."""
        app, one = self._of(role)
        model = model or one.config.model
        sampling = None if sampling is None else dict(sampling)
        identity = self._identity(app, model, sampling)
        return RemoteGenerate(app, model, sampling, identity, one.start_timeout_s)

    def score(self, name: str = "classifier", role: str = "reward_model") -> RewardModel:
        """Return the judge `name` behind a pool, once its rewards agree with Hugging Face's."""
        app, one = self._of(role)
        # The first call checks the rewards.
        self._identity(app, one.config.model, None)
        return RewardModel(name, partial(remote_logit, app, one.start_timeout_s))

    @property
    def num_cpus(self) -> float:
        """Return the CPUs that all pools take when they have grown to their most."""
        return sum(one.config.max_replicas * one.config.num_cpus for one in self._hosted.values())

    def check(self) -> list[str]:
        """Return the roles that have no engine now.

        Raises PoolError where a pool cannot come back by itself, and what `on_check` raises.
        """
        self._on_check()
        self._check({one.role: one.max_deaths for one in self._hosted.values()})
        statuses = self._statuses()
        self._say_what_waits(statuses)
        return self._without_engine(statuses)

    def _without_engine(self, statuses: Mapping[str, Any]) -> list[str]:
        return [
            self._hosted[app].role
            for app, status in statuses.items()
            if not any(d.replica_states.get("RUNNING") for d in status.deployments.values())
        ]

    def _say_what_waits(self, statuses: Mapping[str, Any]) -> None:
        """Print, now and then, which pools have lost all their engines and wait for room."""
        waiting = self._waiting(statuses)
        now = time.monotonic()
        if not waiting:
            self._without = None
            return
        self._without = self._without or now
        if now - self._without > FIRST_WORD_S and now - self._said > SAY_EVERY_S:
            self._said = now
            CONSOLE.print(f"  no engine now ({waiting}); waiting", markup=False)

    def _check(self, patience: Mapping[str, int]) -> None:
        """Raise PoolError where a pool will not come back by itself.

        `patience` says how many engines of each role may fail to start.
        """
        statuses, report = self._statuses(), told(self._witness)
        failures = report.failures
        for app, one in self._hosted.items():
            if report.deaths[one.role] >= one.max_deaths:
                words = [cause for cause in report.causes if cause.startswith(f"{one.role}: ")]
                raise PoolError(
                    f"stopped: {report.deaths[one.role]} engines of the {one.role} died "
                    f"(max_engine_deaths); last: {words[-1]}"
                )
            causes = [cause for role, cause in failures if role == one.role]
            if len(causes) > patience[one.role]:
                raise PoolError(causes[-1])
            if app not in statuses:
                why = causes[-1] if causes else "removed from outside"
                raise PoolError(
                    f"stopped: the pool of the {one.role} is gone ({why}); "
                    "the same command continues"
                )
            if statuses[app].status == "DEPLOY_FAILED":
                words = [d.message for d in statuses[app].deployments.values()]
                raise PoolError(f"stopped: the pool of the {one.role} failed ({'; '.join(words)})")

    def _identity(self, app: str, model: str, sampling: dict[str, Any] | None) -> str:
        # A replica is asked, so that a reward model has passed its check before it is used.
        patience = self._hosted[app].start_timeout_s
        return str(asyncio.run(call_replica(app, "identity", patience, model, sampling)))

    def _of(self, role: str) -> tuple[str, Hosted]:
        return next((app, one) for app, one in self._hosted.items() if one.role == role)

    def _application(self, app: str, one: Hosted) -> Any:
        serving, role = self._serving, one.config
        deployment = serve.deployment(Replica).options(
            name=one.role,
            ray_actor_options={"num_cpus": role.num_cpus, "num_gpus": gpus_of(role)},
            max_ongoing_requests=serving.max_ongoing_requests,
            health_check_period_s=serving.health_check_period_s,
            health_check_timeout_s=serving.health_check_timeout_s,
            graceful_shutdown_wait_loop_s=0.2,
            graceful_shutdown_timeout_s=serving.graceful_shutdown_timeout_s,
            **_replicas(role, serving),
        )
        return deployment.bind(app, one, self._witness)

    def _wait_until_running(self) -> None:
        started = said = time.monotonic()
        patience = max(one.start_timeout_s for one in self._hosted.values())
        while True:
            statuses = self._statuses()
            running = [app for app, status in statuses.items() if status.status == "RUNNING"]
            if len(running) == len(self._hosted):
                return
            self._check(dict.fromkeys((one.role for one in self._hosted.values()), 0))
            waited = time.monotonic() - started
            if waited > patience:
                report = told(self._witness)
                words = [
                    f"{role}: {last_words(report, role)}" for role in self._without_engine(statuses)
                ]
                waiting = self._waiting(statuses)
                raise PoolError(
                    f"stopped: pools did not start in {waited:.0f} s (start_timeout_s; {waiting}; "
                    f"last known: {'; '.join(words)}); the same command continues"
                )
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                waiting = self._waiting(statuses)
                CONSOLE.print(f"  starting engines, {waited:.0f} s so far ({waiting})")
            time.sleep(0.5)

    def _waiting(self, statuses: Mapping[str, Any]) -> str:
        """Say which roles wait, and for what."""
        words = []
        without = self._without_engine(statuses)
        for app, status in statuses.items():
            one = self._hosted[app]
            if one.role not in without:
                continue
            states = [
                state for d in status.deployments.values() for state, n in d.replica_states.items()
            ]
            messages = " ".join(d.message for d in status.deployments.values())
            if "to be scheduled" in messages:  # Serve's words for devices that are not there
                each = f"{one.config.num_cpus:g} CPUs, {gpus_of(one.config):g} GPUs"
                words.append(f"{one.role}: waiting for {each} for each replica")
            else:
                words.append(f"{one.role}: {', '.join(states).lower() or 'not started'}")
        return "; ".join(words)

    def _statuses(self) -> dict[str, Any]:
        # Serve lists the applications of the whole cluster; others are not ours to judge.
        applications = serve.status().applications
        return {app: applications[app] for app in self._hosted if app in applications}

    def _delete_leftovers(self) -> None:
        """Delete pools of this folder that a killed job has left."""
        prefixes = tuple(map(_prefix_of, self._hosted.values()))
        for app in serve.status().applications:
            if app.startswith(prefixes):
                serve.delete(app)

    def _delete(self, wait: bool = True) -> None:
        apps = list(self._statuses())
        # First all are told, then each is waited for: an engine takes seconds to end.
        for app in apps:
            serve.delete(app, _blocking=False)
        for app in apps if wait else ():
            serve.delete(app)

    def _delete_quietly(self, cause: BaseException) -> None:
        """Delete the pools while an error is on its way, and raise no other one in its place.

        A job that is stopped has seconds to end, so it does not wait for the pools.
        """
        try:
            self._delete(wait=isinstance(cause, Exception))
        except Exception as error:
            words = f"could not remove the pools ({error}); they end by themselves"
            CONSOLE.print(f"  {words}, or with the next run in this folder", markup=False)


def _replicas(role: RoleConfig, serving: ServingConfig) -> dict[str, Any]:
    if role.min_replicas == role.max_replicas:
        return {"num_replicas": role.min_replicas}
    return {
        "autoscaling_config": {
            "min_replicas": role.min_replicas,
            "max_replicas": role.max_replicas,
            "target_ongoing_requests": serving.target_ongoing_requests,
            "upscale_delay_s": serving.upscale_delay_s,
            "downscale_delay_s": serving.downscale_delay_s,
        }
    }


def _prefix_of(one: Hosted) -> str:
    """Return a name that is the same in every job of a folder, so that leftovers are found."""
    return f"avr-{one.role}-{content_id(str(one.folder))[:8]}"
