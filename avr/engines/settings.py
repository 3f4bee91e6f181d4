"""Check the names of vLLM's settings against its source: importing vLLM takes ten seconds and more.

A misspelt setting must be an error before the first engine starts, not in a worker an hour later.
"""

import ast
import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from avr.config.errors import ConfigError
from avr.config.roles import RoleConfig

SET_BY_GROWTH = ("n", "seed", "output_kind")
RANGES = {"max_tokens": (1, 1 << 24), "temperature": (0, 100), "top_p": (1e-6, 1)}
PICKLES = ("pt", "npcache")
# A replica is given the devices of its tensor-parallel size. These settings would take more.
ONE_DEVICE_GROUP = (
    "pipeline_parallel_size",
    "data_parallel_size",
    "prefill_context_parallel_size",
    "nnodes",
)
SET_BY_ROLE = {
    "model": "model",
    "trust_remote_code": "trust_remote_code",
    # Given to vLLM, a revision would reach neither our tokenizer nor the reward check nor training.
    "revision": "model, as NAME@REVISION",
    "tokenizer_revision": "model, as NAME@REVISION",
}
# Settings of vLLM that change how fast texts come, or where they are made, and not the texts. A run
# may go on when these change. It may not when any other one does (quantization, hf_overrides,
# kv_cache_dtype), because texts then differ.
_ONLY_SPEED = frozenset(
    {
        "async_scheduling",
        "block_size",
        "compilation_config",
        "cpu_offload_gb",
        "data_parallel_size",
        "disable_custom_all_reduce",
        "disable_log_stats",
        "distributed_executor_backend",
        "download_dir",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "long_prefill_token_threshold",
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_parallel_loading_workers",
        "num_gpu_blocks_override",
        "pipeline_parallel_size",
        "tensor_parallel_size",
    }
)

# FlashInfer compiles its sampler when the first engine of a node starts (minutes), and a request
# with a seed, as each of ours is, never uses it.
_OUR_ENVIRONMENT = {"VLLM_USE_FLASHINFER_SAMPLER": "0"}


def environment(config: RoleConfig) -> dict[str, str]:
    """Return the environment variables of an engine's process: the role's own over ours."""
    return _OUR_ENVIRONMENT | config.env


def check_role(
    role: str, config: RoleConfig, *, scores: bool = False, sampling_at: str | None = None
) -> None:
    """Raise ConfigError for settings that vLLM does not have or that are not the user's to set.

    `sampling_at` names where the sampling was set: `ROLE.sampling`, or another place.
    """
    engine = _fields("engine/arg_utils.py", "EngineArgs")
    engine |= _fields("engine/arg_utils.py", "AsyncEngineArgs")
    _check_names(f"{role}.engine", config.engine, engine)
    for name, ours in SET_BY_ROLE.items():
        if name in config.engine:
            raise ConfigError(f"{role}.engine.{name} cannot be set there: it is {role}.{ours}")
    for name in ONE_DEVICE_GROUP:
        if config.engine.get(name, 1) != 1:
            raise ConfigError(
                f"{role}.engine.{name} is {config.engine[name]!r}, must be 1: a replica is given"
                f" the GPUs of {role}.engine.tensor_parallel_size alone; more engines are"
                f" {role}.max_replicas"
            )
    limit = config.engine.get("max_model_len")
    if limit is not None and not isinstance(limit, int):
        raise ConfigError(f"{role}.engine.max_model_len is {limit!r}, must be a whole number")
    if "worker_extension_cls" in config.engine:
        raise ConfigError(
            f"{role}.engine.worker_extension_cls cannot be set: ours is what takes over new weights"
        )
    if config.engine.get("load_format") in PICKLES:
        raise ConfigError(
            f"{role}.engine.load_format is {config.engine['load_format']!r}, which loads pickles: "
            "they can run code; convert the weights to safetensors"
        )
    if not scores:
        _check_sampling(role, config, sampling_at or f"{role}.sampling")


def text_settings(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings of an engine that decide which texts it gives."""
    return {name: value for name, value in engine.items() if name not in _ONLY_SPEED}


def _check_sampling(role: str, config: RoleConfig, at: str) -> None:
    _check_names(at, config.sampling, _fields("sampling_params.py", "SamplingParams"))
    for name in SET_BY_GROWTH:
        if name in config.sampling:
            raise ConfigError(f"{at}.{name} is set by the growth of the tree")
    if "max_tokens" not in config.sampling:
        raise ConfigError(f"{at}.max_tokens is not set (vLLM's default is 16 tokens)")
    for name, (least, most) in RANGES.items():
        value = config.sampling.get(name, least)
        if not isinstance(value, int | float) or not least <= value <= most:
            raise ConfigError(f"{at}.{name} is {value!r}, must be {least:g} to {most:g}")
    limit, wanted = config.engine.get("max_model_len"), config.sampling["max_tokens"]
    if limit is not None and wanted >= limit:
        raise ConfigError(
            f"{at}.max_tokens is {wanted}, and {role}.engine.max_model_len only {limit}"
        )


def _check_names(section: str, settings: Mapping[str, Any], known: Iterable[str]) -> None:
    names = sorted(known)
    for key in settings:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{section}.{key} is no vLLM setting{hint}")


@cache
def _fields(file: str, name: str) -> frozenset[str]:
    """Return the annotated fields of a class in vLLM's source."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        raise ConfigError("vllm is not installed")
    tree = ast.parse((Path(spec.origin).parent / file).read_text())
    (found,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    return frozenset(
        node.target.id
        for node in found.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )
