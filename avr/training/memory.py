"""Work out the facts that decide a training rank's memory from TRL's and DeepSpeed's settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from avr.config.training import TrainingConfig
from avr.memory.model import UnknownMemoryError
from avr.memory.training import ADAM, Training
from avr.training.methods.method import Method

_NARROW = ("bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Layout:
    """Describe how a batch goes through a model; `avr.memory.dry_run` measures `Saved` by it.

    `wide`: the adapter that `lora` describes is in float32, whatever the model is.
    """

    bits: int
    autocast: bool
    attention: str | None
    lora: Mapping[str, Any] | None = None
    wide: bool = False


def rank_settings(at: str, method: Method, config: TrainingConfig) -> tuple[Training, Layout]:
    """Work out a rank's settings; `at` is the section that holds them. Imports TRL (seconds).

    Raises UnknownMemoryError where rows may have any length, for optimizers other than Adam, and
    where whole logits are computed.
    """
    asked = partial(method.setting, config.trl)
    length = asked("max_length")
    if length is None:
        raise UnknownMemoryError(f"{at}.trl.max_length is null: rows may have any length")
    if not method.paired and asked("label_smoothing_factor"):
        raise UnknownMemoryError(f"{at}.trl.label_smoothing_factor takes whole logits")
    zero: Mapping[str, Any] = config.deepspeed.get("zero_optimization", {})
    stage = int(zero.get("stage", 0))
    mixed = _mixed(asked)
    loaded = str((config.trl.get("model_init_kwargs") or {}).get("dtype", "float32"))
    # Without DeepSpeed the weights keep the width that they are loaded with.
    narrow = mixed and _enabled(config) if config.deepspeed else loaded in _NARROW
    width = 2 if narrow else 4
    accumulated = config.deepspeed.get("data_types", {}).get("grad_accum_dtype")
    per_device = int(asked("per_device_train_batch_size"))
    training = Training(
        num_ranks=config.num_workers,
        stage=stage,
        width=width,
        sequences=per_device * (2 if method.paired else 1),
        length=int(length),
        packed=bool(not method.paired and (asked("packing") or asked("padding_free"))),
        checkpointing=bool(asked("gradient_checkpointing")),
        reference=method.has_reference
        # Without its adapter a model is the reference itself.
        and not (asked("precompute_ref_log_probs") or config.lora is not None),
        deepspeed=bool(config.deepspeed),
        gradient_width=4 if accumulated in ("fp32", "float32") else width,
        optimizer=_optimizer(at, asked("optim"), config),
        bucket=_number(zero, "reduce_bucket_size", 5e8),
        num_buckets=2 if stage in (1, 2) and zero.get("overlap_comm") else 1,
        live=_number(zero, "stage3_max_live_parameters", 1e9),
        group=_number(zero, "sub_group_size", 1e9),
        offload_optimizer=_offloaded(zero, "offload_optimizer"),
        offload_weights=_offloaded(zero, "offload_param"),
    )
    attention = (config.trl.get("model_init_kwargs") or {}).get("attn_implementation")
    # DeepSpeed gives all weights one width; without it peft keeps an adapter in float32.
    wide = not config.deepspeed
    autocast = mixed and (width == 4 or (wide and config.lora is not None))
    return training, Layout(8 * width, autocast, attention, config.lora, wide)


def _mixed(asked: Callable[[str], Any]) -> bool:
    """Tell whether the training computes in 16 bits. TRL's does, unless it is told not to."""
    bf16, fp16 = asked("bf16"), asked("fp16")
    return bool(fp16) or (bf16 is None or bool(bf16))


def _enabled(config: TrainingConfig) -> bool:
    """Tell whether DeepSpeed is told to keep 16-bit weights; "auto" stands for TRL's choice."""
    return any(config.deepspeed.get(name, {}).get("enabled") for name in ("bf16", "fp16"))


def _optimizer(at: str, optim: Any, config: TrainingConfig) -> int:
    """Return the bytes of optimizer state per parameter."""
    name = str(getattr(optim, "value", optim))
    if "8bit" in name and name.startswith("adamw"):
        return 2
    if not name.startswith(("adamw_torch", "adamw_apex")):
        raise UnknownMemoryError(f"{at}.trl.optim is {name}")
    of_deepspeed = str(config.deepspeed.get("optimizer", {}).get("type", "AdamW"))
    if of_deepspeed.lower() not in ("adam", "adamw"):
        raise UnknownMemoryError(f"{at}.deepspeed.optimizer.type is {of_deepspeed}")
    return ADAM


def _number(zero: Mapping[str, Any], name: str, default: float) -> int:
    """Return a number of parameters, the default for "auto".

    "auto" depends on the model's width, and is far below the default.
    """
    value = zero.get(name, default)
    return int(default if value == "auto" else float(value))


def _offloaded(zero: Mapping[str, Any], name: str) -> bool:
    device = (zero.get(name) or {}).get("device", "none")
    return device in ("cpu", "nvme")
