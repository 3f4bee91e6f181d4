"""Define the settings of `jobs/gpu_check.py`.

conf/gpu_check.yaml and gpu_check_cpu.yaml hold values.
"""

from dataclasses import dataclass, field
from typing import Any

from avr.config.checks import check_values
from avr.config.errors import ConfigError
from avr.config.fields import at_least
from avr.config.roles import RoleConfig
from avr.config.training import TrainingConfig
from avr.engines.folders import check_model
from avr.engines.settings import check_role
from avr.plan.checks import check_replicas, check_run_dir
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft
from avr.training.settings import check_training

NAMES = (
    "cluster",
    "versions",
    "devices",
    "host",
    "all_reduce",
    "engine",
    "reload",
    "rewards",
    "rsft",
    "dpo",
)


@dataclass
class HostLimits:
    """Set the least that every machine that works must have.

    `run_dir_gib` and `temporary_gib`: free GiB where run_dir and TMPDIR lie. `write_mib_per_s`:
    MiB/s at which `write_mib` MiB are written to run_dir and synced, by all machines at once.
    `open_files`: of one process. `shared_memory_gib`: the size of /dev/shm, which NCCL, vLLM and
    Ray's object store use. `free_memory`: the share of each GPU's memory that nobody holds.
    """

    run_dir_gib: float = at_least(0, 400.0)
    temporary_gib: float = at_least(0, 50.0)
    write_mib: int = at_least(1, 512)
    write_mib_per_s: float = at_least(0, 100.0)
    open_files: int = at_least(0, 4096)
    shared_memory_gib: float = at_least(0, 8.0)
    free_memory: float = at_least(0, 0.95)


@dataclass
class GpuCheckConfig:
    """Configure the checks: which, on how many devices, and with which models.

    `checks` are names of `NAMES`. `devices` are GPUs, or training workers without GPUs; unset, all
    GPUs that the cluster has now, so a cluster that still has to grow needs the number. Each check
    ends after `timeout_s`, and so does waiting for devices after `placement_timeout_s`. `tolerance`
    is in logits, relative above 1, for rewards and for greedy texts. `other_model` has weights that
    the running engine of `policy` takes over. `rsft` and `dpo` train `policy`, with as many workers
    as there are devices. `ray` goes to `ray.init` of a cluster that the job starts for itself.
    """

    run_dir: str = "runs/gpu_check"
    checks: list[str] = field(default_factory=lambda: list(NAMES))
    use_gpu: bool = True
    devices: int | None = at_least(1, None)
    timeout_s: float = at_least(1, 600.0)
    placement_timeout_s: float = at_least(1, 300.0)
    all_reduce_mib: int = at_least(1, 256)
    tolerance: float = at_least(0, 0.05)
    limits: HostLimits = field(default_factory=HostLimits)
    policy: RoleConfig = field(default_factory=RoleConfig)
    other_model: str = ""
    reward_model: RoleConfig = field(default_factory=RoleConfig)
    rsft: TrainingConfig = field(default_factory=TrainingConfig)
    dpo: TrainingConfig = field(default_factory=TrainingConfig)
    ray: dict[str, Any] = field(default_factory=dict)


def check(config: GpuCheckConfig) -> None:
    """Raise ConfigError for settings that cannot be used, before anything is started."""
    check_values(config)
    check_run_dir(config.run_dir)
    unknown = [name for name in config.checks if name not in NAMES]
    if unknown:
        raise ConfigError(f"unknown check {unknown[0]!r}; there are: {', '.join(NAMES)}")
    if not config.checks:
        raise ConfigError(f"checks is empty; there are: {', '.join(NAMES)}")
    if not config.use_gpu and config.devices is None:
        raise ConfigError("devices is not set: without GPUs it is the number of training workers")
    check_replicas({"policy": config.policy, "reward_model": config.reward_model})
    parts = {n: getattr(config, n) for n in ("policy", "reward_model", "rsft", "dpo")}
    other = next((name for name, part in parts.items() if part.use_gpu != config.use_gpu), None)
    if other is not None:
        raise ConfigError(
            f"use_gpu is {config.use_gpu}, {other}.use_gpu is not: set all alike"
            " (--cpu turns all of them off)"
        )
    check_training("rsft", Rsft(), config.rsft)
    check_training("dpo", Dpo(), config.dpo)
    check_role("policy", config.policy)
    check_role("reward_model", config.reward_model, scores=True)
    check_model("policy.model", config.policy.model)
    check_model("other_model", config.other_model)
    check_model("reward_model.model", config.reward_model.model, scores=True)
