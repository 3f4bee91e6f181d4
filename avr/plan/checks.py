"""Check any job's configuration for mistakes before anything starts."""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import pyarrow as pa

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.roles import RoleConfig
from avr.data.prompt_files import on_hub
from avr.data.prompt_sets import check_rows
from avr.engines.model_config import HubUnreachableError
from avr.storage import files_at, is_remote, location, reached


def check_run_dir(run_dir: str) -> None:
    """Raise ConfigError for a run_dir that cannot be used.

    On a cluster a relative path would be another place on every node.
    """
    if not run_dir.strip():
        raise ConfigError("run_dir is empty")
    folder = location(run_dir)
    if is_remote(folder) and any(sign in run_dir for sign in "*?[]"):
        raise ConfigError(f"run_dir is {run_dir!r}: on an object store it must not hold *?[]")
    if "RAY_ADDRESS" in os.environ and not (is_remote(folder) or folder.is_absolute()):
        raise ConfigError(
            f"run_dir is {run_dir!r}: on a cluster it must be an absolute path on "
            "storage that all nodes share, or on an object store"
        )


def check_prompts(step: str, prompts: PromptsConfig) -> None:
    """Raise ConfigError for prompts of a step that are not there or cannot be used.

    A mistyped path or field is so found now, and not by a step that has begun.
    """
    name, path = f"the prompts of step {step}", prompts.path or ""
    if not path:
        raise ConfigError(f"{name}: path is not set")
    if not on_hub(prompts):
        with reached(name, location(path)):
            files = files_at(path)
        if not files:
            raise ConfigError(f"no prompts at {path} (for step {step})")
    check_set(name, prompts)


def check_set(name: str, prompts: PromptsConfig) -> None:
    """Raise ConfigError, beginning with `name`, for a set whose first rows hold no prompts.

    Where nobody could look at a hub data set, a line says so, and the job goes on.
    """
    hub = on_hub(prompts)
    try:
        with nullcontext() if hub else reached(name, location(prompts.path or "")):
            check_rows(prompts)
    except HubUnreachableError as error:
        print(f"could not read {prompts.path} ({error.why}); going on without checking {name}")
    except (ConfigError, OSError, pa.ArrowException) as error:
        raise ConfigError(f"{name}: {error}") from error


def check_rounds(rounds: Mapping[str, int], models: Sequence[str]) -> None:
    """Raise ConfigError for rounds of a model that is not evaluated, or fewer rounds than none."""
    for name, number in rounds.items():
        if name not in models:
            there = ", ".join(models)
            raise ConfigError(f"evaluation.rounds.{name}: no such model; there are: {there}")
        if number < 0:
            raise ConfigError(f"evaluation.rounds.{name} is {number}, must be at least 0")


def check_replicas(roles: Mapping[str, RoleConfig]) -> None:
    """Raise ConfigError for numbers of replicas, or shares of GPUs, that are not possible."""
    for name, role in roles.items():
        if role.gpu_share > 1:
            raise ConfigError(
                f"{name}.gpu_share is {role.gpu_share:g}, must be at most 1: an engine takes more "
                f"GPUs by {name}.engine.tensor_parallel_size"
            )
        if role.gpu_share < 1:
            _check_share(name, role)
        if role.max_replicas < role.min_replicas:
            raise ConfigError(
                f"{name}.max_replicas {role.max_replicas} < min_replicas {role.min_replicas}"
            )


def _check_share(name: str, role: RoleConfig) -> None:
    words = f"{name}.gpu_share is {role.gpu_share:g}, but"
    if not role.use_gpu:
        raise ConfigError(f"{words} {name}.use_gpu is false; set {name}.gpu_share to 1")
    if (size := role.engine.get("tensor_parallel_size", 1)) != 1:
        raise ConfigError(
            f"{words} {name}.engine.tensor_parallel_size is {size}; set {name}.gpu_share to 1"
        )
    # vLLM does not start where less of the memory is free than this share; its default is 0.92.
    memory = role.engine.get("gpu_memory_utilization")
    if memory is None or not memory <= role.gpu_share:
        raise ConfigError(
            f"{words} {name}.engine.gpu_memory_utilization is {memory or 'not set'}; it must be at "
            "most that share"
        )
