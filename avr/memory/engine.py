"""Work out what a vLLM engine needs of each of its GPUs. Pure; sizes are in bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avr.memory.model import GIB, Model, UnknownMemoryError, shared_evenly

UTILIZATION = 0.92  # vLLM's default of gpu_memory_utilization
# vLLM's largest defaults: which of them it takes depends on the GPU.
MAX_NUM_SEQS = 1024
MAX_NUM_BATCHED_TOKENS = 16384
# Estimates. OVERHEAD is CUDA's context, NCCL's buffers and CUDA graphs. LOGIT are bytes of a logit:
# its 16-bit value, the float32 copy, and a value and a 64-bit index for sorting by top_p.
OVERHEAD = 2 * GIB
LOGIT = 18
_WIDTHS = {"auto": 2, "bfloat16": 2, "float16": 2, "half": 2, "float32": 4, "float": 4}


@dataclass(frozen=True, slots=True)
class EngineNeed:
    """Hold the bytes of one GPU that an engine needs, and its budget for keys and values.

    `start` is what vLLM takes when it profiles itself: an estimate. `per_token` are keys and values
    of one token, `length` the tokens of the longest sequence. `budget` is what vLLM may take in
    all, None where nobody knows how much memory there is.
    """

    weights: int
    start: int
    per_token: int
    length: int
    budget: int | None

    @property
    def least(self) -> int:
        """Add up weights, start and one sequence in full: vLLM does not start with less."""
        return self.weights + self.start + self.per_token * self.length

    @property
    def surely(self) -> int:
        """Add up the same without the estimate."""
        return self.least - self.start

    @property
    def tokens(self) -> int | None:
        """Count the tokens whose keys and values have room at the same time."""
        if self.budget is None:
            return None
        return max(0, self.budget - self.weights - self.start) // self.per_token

    @property
    def sequences(self) -> float | None:
        """Count the sequences of full length that have room at the same time."""
        return None if self.tokens is None else self.tokens / self.length


def engine_need(
    model: Model, engine: Mapping[str, Any], gpu: int | None, scores: bool = False
) -> EngineNeed:
    """Work out what one engine needs of each of its GPUs, which have `gpu` bytes (None: unknown).

    `engine` holds vLLM's settings. Keys and values are counted in full for every layer, which is
    too much where a layer's window is shorter than the sequence. `scores`: it has no sampler.
    Raises UnknownMemoryError for weights that are quantised.
    """
    if engine.get("quantization"):
        raise UnknownMemoryError(f"engine.quantization is {engine['quantization']!r}")
    width = _width(str(engine.get("dtype", "auto")))
    ranks = int(engine.get("tensor_parallel_size", 1))
    kv_heads = max(1, model.num_kv_heads // ranks)
    kv_width = 1 if str(engine.get("kv_cache_dtype", "auto")).startswith("fp8") else width
    length = engine.get("max_model_len")
    return EngineNeed(
        weights=model.parameters * width // ranks,
        start=_start(model, engine, width, ranks, scores),
        per_token=2 * model.num_layers * kv_heads * model.head_dim * kv_width,
        length=length if isinstance(length, int) and length > 0 else model.positions,
        budget=None if gpu is None else int(gpu * _utilization(engine)),
    )


def _utilization(engine: Mapping[str, Any]) -> float:
    asked = engine.get("gpu_memory_utilization")
    return UTILIZATION if asked is None else float(asked)


def _start(model: Model, engine: Mapping[str, Any], width: int, ranks: int, scores: bool) -> int:
    """Estimate the memory of the largest batch that vLLM tries out, and of CUDA."""
    tokens = int(engine.get("max_num_batched_tokens") or MAX_NUM_BATCHED_TOKENS)
    num_seqs = min(int(engine.get("max_num_seqs") or MAX_NUM_SEQS), tokens)
    # One token's residual, norm, queries and attention output; gate, up and their product.
    values = 4 * model.hidden + 3 * model.intermediate // ranks
    logits = 0 if scores else num_seqs * model.vocabulary * LOGIT
    return OVERHEAD + tokens * values * width + logits


def _width(dtype: str) -> int:
    if dtype not in _WIDTHS:
        raise UnknownMemoryError(f"engine.dtype is {dtype!r}")
    return _WIDTHS[dtype]


def engine_helps(
    model: Model, engine: Mapping[str, Any], gpu: int, scores: bool = False
) -> str | None:
    """Name one setting that would make an engine fit that does not fit; None where none does."""
    for ranks in (2, 4, 8):
        shared = shared_evenly(model.num_heads, model.num_kv_heads, ranks)
        if ranks <= int(engine.get("tensor_parallel_size", 1)) or not shared:
            continue
        need = engine_need(model, {**engine, "tensor_parallel_size": ranks}, gpu, scores)
        if need.least <= gpu * _utilization(engine):
            return f"engine.tensor_parallel_size={ranks} ({need.least / GIB:.0f} GiB)"
    for parts in (2, 4):
        length = engine_need(model, engine, gpu, scores).length // parts
        need = engine_need(model, {**engine, "max_model_len": length}, gpu, scores)
        if need.least <= gpu * _utilization(engine):
            return f"engine.max_model_len={length} ({need.least / GIB:.0f} GiB)"
    return None
