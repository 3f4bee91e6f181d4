"""Make all checks, one after the other: each is made however the others ended."""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray

from avr.checks.collectives import check_all_reduce
from avr.checks.devices import check_devices
from avr.checks.engines import EngineChecks
from avr.checks.host import check_host
from avr.checks.machines import check_software, machines
from avr.checks.outcome import CheckFailed, Finding, Result, Skipped, carry_out
from avr.checks.reference import Reference
from avr.checks.report import report, show, write
from avr.checks.settings import NAMES, GpuCheckConfig
from avr.checks.training import check_dpo, check_rsft
from avr.config.errors import ConfigError
from avr.hosting.cluster import connect, place
from avr.hosting.witness import on_this_node
from avr.plan.resources import Pool, StepPlan
from avr.storage import Location, check_writable, is_remote, location, remove, scratch
from avr.terminal import CONSOLE, indented

NEED_DEVICES = ("devices", "all_reduce", "engine", "reload", "rewards", "rsft", "dpo")


def run(config: GpuCheckConfig) -> int:
    """Make the checks that `config.checks` names; return the exit status.

    It is 0 where something was checked and nothing failed. Settings have gone through
    `settings.check`.
    """
    run_dir = location(config.run_dir)
    run_dir = run_dir if is_remote(run_dir) else Path(run_dir).resolve()
    home, unwritable = _home(run_dir)
    folder = home / f"work-{secrets.token_hex(4)}"
    logs = scratch() if is_remote(folder) else folder
    connect(config.ray, [], logs / "logs" / "driver.log")
    checks = _Checks(config, folder, unwritable)
    results: list[Result] = []
    for name in NAMES:
        if name not in config.checks:
            continue
        CONSOLE.print(f"[bold]{name}: starts[/bold]")
        result = carry_out(name, checks.named(name), config.timeout_s)
        results.append(result)
        CONSOLE.print(
            f"  {result.outcome} after {result.seconds:.1f} s: {result.words}",
            markup=False,
            soft_wrap=True,
        )
    checks.end()
    show(results)
    content = report(results, checks.seen, checks.devices)
    write(home / "gpu_check.json", content)
    if content["passed"]:
        remove(folder)
    else:
        indented(f"logs and what was made: {folder}")
    return 0 if content["passed"] else 1


def _home(run_dir: Location) -> tuple[Location, str]:
    """Choose the place where checks work: run_dir, or a folder of this machine.

    For the latter the reason why it is not run_dir is returned as well.
    """
    try:
        check_writable(run_dir, "run_dir")
    except ConfigError as error:
        return scratch() / "gpu_check", str(error)
    return run_dir, ""


class _Checks:
    """Hold what checks share: the cluster, its devices, the processes beside the driver."""

    def __init__(self, config: GpuCheckConfig, folder: Location, unwritable: str):
        self._config, self._folder, self._unwritable = config, folder, unwritable
        self.seen: dict[str, Any] = {}
        self.devices = 0
        self._no_devices = ""
        self._placed = False
        self._helpers: tuple[Any, EngineChecks] | None = None
        try:
            self.devices = self._wanted()
        except CheckFailed as error:
            self._no_devices = str(error)

    def named(self, name: str) -> Callable[[], Finding]:
        """Return the check of that name, to be made."""
        if name in NEED_DEVICES:
            return lambda: self._on_devices(name)
        return {"cluster": self._cluster, "versions": self._versions, "host": self._host}[name]

    def end(self) -> None:
        """End the processes that the checks have started."""
        if self._helpers is not None:
            reference, engines = self._helpers
            try:
                engines.stop()
            except CheckFailed as error:
                indented(str(error))
            ray.kill(reference)

    def _wanted(self) -> int:
        config = self._config
        if config.devices is not None:
            return config.devices
        there = int(sum(machine.gpus for machine in machines()))
        if not there:
            raise CheckFailed(
                "the cluster has no GPU: if it grows on demand say how many, devices=8; --cpu "
                "checks what needs none"
            )
        return there

    def _cluster(self) -> Finding:
        """Wait for room for one process a device; check that there are machines."""
        if self._no_devices:
            raise CheckFailed(self._no_devices)
        self._wait_for_room()
        found = machines()
        listed = ", ".join(f"{n.name} with {n.cpus:g} CPUs and {n.gpus:g} GPUs" for n in found)
        figures: Mapping[str, Any] = {n.name: {"cpus": n.cpus, "gpus": n.gpus} for n in found}
        return Finding(listed, figures)

    def _wait_for_room(self) -> None:
        """Wait for room, once and in any check: a cluster may have to grow before it is seen."""
        if self._placed:
            return
        config = self._config
        each = Pool("device", "", self.devices, self.devices, 1.0, float(config.use_gpu))
        try:
            place(StepPlan("gpu_check", (each,), True, 0.0), config.placement_timeout_s, indented)
        except RuntimeError as error:
            self._no_devices = f"the cluster has no room: {error}"
            raise
        self._placed = True

    def _versions(self) -> Finding:
        return check_software(machines(), self.seen)

    def _host(self) -> Finding:
        if self._unwritable:
            raise CheckFailed(f"{self._unwritable}; the other checks write to {self._folder}")
        if not self._no_devices:
            self._wait_for_room()
        token = secrets.token_hex(8)
        return check_host(machines(), self._folder, token, self._config.limits)

    def _on_devices(self, name: str) -> Finding:
        config, devices, folder = self._config, self.devices, self._folder
        if self._no_devices:
            raise Skipped(self._no_devices)
        self._wait_for_room()
        if self._unwritable and name != "devices" and len(machines()) > 1:
            raise Skipped("machines have no folder in common without run_dir: see the check host")
        if name == "devices":
            if not config.use_gpu:
                raise Skipped("without GPUs (--cpu) there is nothing to see")
            return check_devices(machines(), config.limits.free_memory)
        if name == "all_reduce":
            limit = config.timeout_s
            return check_all_reduce(folder, devices, config.use_gpu, config.all_reduce_mib, limit)
        reference, engines = self._beside_driver()
        if name in ("rsft", "dpo"):
            engines.stop()
            check_training = check_rsft if name == "rsft" else check_dpo
            return check_training(config, devices, folder, reference)
        made: Mapping[str, Callable[[], Finding]] = {
            "engine": engines.engine,
            "reload": engines.reload,
            "rewards": engines.rewards,
        }
        return made[name]()

    def _beside_driver(self) -> tuple[Any, EngineChecks]:
        if self._helpers is None:
            # `Any`, because the decorator has made something else of the class.
            actor: Any = Reference
            reference = actor.options(scheduling_strategy=on_this_node()).remote()
            self._helpers = reference, EngineChecks(self._config, self._folder, reference)
        return self._helpers
