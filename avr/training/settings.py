"""Pass TRL's and DeepSpeed's settings through under their own names, checked by name first.

Nothing of TRL is mirrored here. `OWNED` lists the few fields that a run must decide itself, with
the reason. Setting one of them is an error, so that nothing is silently overridden.
"""

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from avr.config.checks import check_values
from avr.config.errors import ConfigError
from avr.config.training import TrainingConfig
from avr.memory.adapter import AdapterError, lora_config
from avr.memory.dry_run import trained_by
from avr.memory.model import UnknownMemoryError
from avr.training.methods.method import Method
from avr.training.saving import saves_by_time

TRACKERS = ("tensorboard", "wandb", "mlflow")
SAVE_DTYPES = ("bfloat16", "float16", "float32")
# TRL accepts 0 and infinity for these; the training then fails, or learns nothing, hours later.
ABOVE_ZERO = (
    "learning_rate",
    "num_train_epochs",
    "max_length",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
)

# Field of TRL -> the reason why it cannot be set, or the setting to use in its place.
OWNED = {
    "output_dir": "the training folder beside the model's",
    "deepspeed": "set `deepspeed` of the training job",
    "report_to": "set `trackers` of the training job",
    "use_cpu": "set `use_gpu` of the training job",
    "ddp_backend": "gloo on CPUs, nccl on GPUs",
    "resume_from_checkpoint": "the last reported checkpoint",
    "assistant_only_loss": "rows are masked before they reach TRL",
    "completion_only_loss": "rows are masked before they reach TRL",
    "dataset_kwargs": "rows are tokenised before they reach TRL",
    "truncation_mode": "longer rows are left out and counted, none is cut",
    "save_only_model": "a checkpoint without optimizer state cannot be resumed",
    "load_best_model_at_end": "there is no evaluation inside training",
    "push_to_hub": "publishing is no part of training",
}
# Field of LoraConfig -> the same. Without a merged model no engine could serve the result as it is.
_NOT_MERGED = "what it trains cannot be merged into a plain model"
_OTHER_BASE = "it changes the base model, which is DPO's reference and what the adapter is for"
LORA_OWNED = {
    "task_type": "it is that of a model that generates",
    "inference_mode": "an adapter that is trained is not for inference only",
    "peft_type": "it is LORA",
    "peft_version": "peft writes it",
    "auto_mapping": "peft writes it",
    "base_model_name_or_path": "it is the model that the training starts from",
    "revision": "it is that of policy.model, as NAME@REVISION",
    "runtime_config": "it is for experiments inside peft",
    "megatron_config": "trainings run under DeepSpeed",
    "megatron_core": "trainings run under DeepSpeed",
    "alora_invocation_tokens": _NOT_MERGED,
    "arrow_config": _NOT_MERGED,
    "monteclora_config": _NOT_MERGED,
    "layer_replication": "a training does not change the shape of a model",
    **dict.fromkeys(("loftq_config", "eva_config", "corda_config", "lora_ga_config"), _OTHER_BASE),
}
# Other beginnings ("pissa", "olora", "eva", ...) are for a base model that they change, or want
# data or gradients of it beforehand.
LORA_BEGINNINGS = (True, False, "gaussian", "orthogonal")
LARGEST_SEED = 2**32 - 1  # Transformers seeds NumPy, which takes no more


def check_training(at: str, method: Method, config: TrainingConfig) -> None:
    """Raise ConfigError for settings that TRL does not have or that this launcher decides.

    `at` is the section that holds them. Imports TRL (seconds): a job calls it once at its start,
    long before it has rows.
    """
    check_values(config, f"{at}.")
    known = method.arguments()
    hints = get_type_hints(known)
    check_names(at, config.trl, [f.name for f in fields(known)], known.__name__)
    for name, value in config.trl.items():
        check_type(f"{at}.trl.{name}", value, hints[name])
        check_number(f"{at}.trl.{name}", value, above_zero=name in ABOVE_ZERO)
        check_seed(f"{at}.trl.{name}", value)
    if config.save_dtype is not None and config.save_dtype not in SAVE_DTYPES:
        raise ConfigError(
            f"{at}.save_dtype is {config.save_dtype!r}; there are: {', '.join(SAVE_DTYPES)}"
        )
    loading = config.trl.get("model_init_kwargs") or {}
    if not isinstance(loading, Mapping):
        raise ConfigError(
            f"{at}.trl.model_init_kwargs must be a mapping, not a {type(loading).__name__}"
        )
    if loading.get("use_safetensors") is False:
        raise ConfigError(
            f"{at}.trl.model_init_kwargs.use_safetensors is False: pickles can run code when "
            "they are loaded; convert the weights to safetensors"
        )
    if "revision" in loading:
        raise ConfigError(
            f"{at}.trl.model_init_kwargs.revision cannot be set: it is policy.model, as "
            "NAME@REVISION"
        )
    check_deepspeed(at, config.deepspeed)
    if config.lora is not None:
        check_lora(at, config.lora)
    method.check(at, config.trl)
    for tracker in config.trackers:
        if tracker not in TRACKERS:
            raise ConfigError(f"{at}.trackers: {tracker!r} is not one of {', '.join(TRACKERS)}")


def check_number(name: str, value: Any, *, above_zero: bool) -> None:
    """Raise ConfigError for NaN, and with `above_zero` for 0, less than 0 and infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if math.isnan(value):
        raise ConfigError(f"{name} is {value}, a number is needed")
    if above_zero and not 0 < value < math.inf:
        raise ConfigError(f"{name} is {value}, must be above 0 and finite")


def check_seed(name: str, value: Any) -> None:
    """Raise ConfigError for a seed that NumPy would refuse after the training has begun."""
    if name.endswith("seed") and value is not None and not 0 <= value <= LARGEST_SEED:
        raise ConfigError(f"{name} is {value}, must be from 0 to {LARGEST_SEED}")


def check_names(at: str, trl: Mapping[str, Any], known: Collection[str], of: str) -> None:
    """Raise ConfigError for the first key of `trl` that is unknown or not the user's to set.

    Packing that would cut conversations, or that has no length, is refused as well.
    """
    _check_known(f"{at}.trl", trl, known, OWNED, f"TRL's {of}")
    if trl.get("packing") and trl.get("packing_strategy", "bfd") != "bfd":
        raise ConfigError(f"{at}.trl.packing_strategy: only 'bfd' leaves conversations whole")
    if trl.get("packing") and "max_length" in trl and trl["max_length"] is None:
        raise ConfigError(f"{at}.trl.packing: rows are packed up to max_length, which is null")


def _check_known(
    at: str, names: Iterable[str], known: Collection[str], owned: Mapping[str, str], of: str
) -> None:
    for name in names:
        if name in owned:
            raise ConfigError(f"{at}.{name} cannot be set: {owned[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{at}.{name} is no field of {of}{hint}")


def check_lora(at: str, lora: Mapping[str, Any]) -> None:
    """Raise ConfigError for settings that peft's LoraConfig does not have, or that cannot be set.

    Whether the model has the modules that they name is asked of the model (`check_adapter`).
    """
    from peft import LoraConfig

    hints = get_type_hints(LoraConfig)
    _check_known(f"{at}.lora", lora, list(hints), LORA_OWNED, "peft's LoraConfig")
    beginning = lora.get("init_lora_weights", True)
    if beginning not in LORA_BEGINNINGS:
        there = ", ".join(map(str, LORA_BEGINNINGS))
        raise ConfigError(
            f"{at}.lora.init_lora_weights is {beginning!r}: {_OTHER_BASE}; there are: {there}"
        )
    for name, value in lora.items():
        check_type(f"{at}.lora.{name}", value, hints[name])
        check_number(f"{at}.lora.{name}", value, above_zero=name in ("r", "lora_alpha"))
    try:
        lora_config(lora)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{at}.lora: {error}") from error


def check_adapter(at: str, lora: Mapping[str, Any] | None, config: Mapping[str, Any]) -> None:
    """Raise ConfigError where the model with this config.json cannot take the adapter.

    A model that Transformers does not know, or of quantised weights, is not looked at.
    """
    if lora is None:
        return
    try:
        trained_by(config, lora)
    except AdapterError as error:
        raise ConfigError(f"{at}.lora: {error}") from error
    except UnknownMemoryError:
        pass


def check_type(name: str, value: Any, hint: Any) -> None:
    """Raise ConfigError for a value that the field's type excludes; TRL would find it hours later.

    Three rules go beyond the types: a whole number is accepted as a float, one text is accepted as
    a list of texts, and a text that stands for an enum must be one of its values.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    if isinstance(value, str) and enums:
        values = [member.value for member in enums[0]]
        if value not in values:
            near = difflib.get_close_matches(value, values, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(values)}"
            raise ConfigError(f"{name} is {value!r}{meant}")
    elif value is False and any("no" in [member.value for member in enum] for enum in enums):
        raise ConfigError(f"{name} is False, which is how YAML reads no: put it in quotes, 'no'")
    elif not any(_is_a(value, kind) for kind in kinds):
        words = " or ".join(_words(kind) for kind in kinds)
        raise ConfigError(f"{name} is {value!r}, must be {words}")


def _is_a(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if kind is Any:
        return True
    if origin is Literal:
        return value in get_args(kind)
    if origin is list:
        (item,) = get_args(kind)
        values = [value] if isinstance(value, str) else value
        return isinstance(values, list) and all(_is_a(each, item) for each in values)
    # For Python True is an int as well; here it is no number.
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, int | float)
    return isinstance(value, origin or kind) if isinstance(origin or kind, type) else True


def _words(kind: Any) -> str:
    named = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return named.get(kind, "null" if kind is type(None) else str(getattr(kind, "__name__", kind)))


def check_deepspeed(at: str, deepspeed: Mapping[str, Any]) -> None:
    """Raise ConfigError where the trained weights could not be gathered into one model."""
    zero = deepspeed.get("zero_optimization", {})
    if not isinstance(zero, Mapping) or zero.get("stage", 0) not in (0, 1, 2, 3):
        stage = zero.get("stage") if isinstance(zero, Mapping) else zero
        raise ConfigError(
            f"{at}.deepspeed.zero_optimization.stage is {stage!r}, must be 0, 1, 2 or 3"
        )
    if zero.get("stage") == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise ConfigError(
            f"{at}.deepspeed.zero_optimization.stage3_gather_16bit_weights_on_model_save must be "
            "true: without it ZeRO-3 saves empty weights"
        )


def training_arguments(
    method: Method, config: TrainingConfig, output_dir: Path, loading: Mapping[str, Any]
) -> Any:
    """Make TRL's settings for the method; DeepSpeed's part is active from here on.

    `loading` holds arguments to load the model with, beside the user's. Call it before the model is
    loaded: only then does `from_pretrained` partition the weights while it reads them. Otherwise
    every rank would hold all of them.
    """
    trl = dict(config.trl)
    # Ray Train rotates checkpoints (CheckpointConfig.num_to_keep): it takes one off its record
    # before it deletes the files. The trainer would delete files that the record still names,
    # which makes the next start fail.
    trl.pop("save_total_limit", None)
    if saves_by_time(config):
        trl["save_strategy"] = "no"  # a callback says when to save
    trl |= method.settings(trl)
    trl.setdefault("disable_tqdm", True)
    # Only safetensors: a pickle can run code when it is loaded.
    trl["model_init_kwargs"] = {
        "use_safetensors": True,
        **(trl.get("model_init_kwargs") or {}),
        **loading,
    }
    return method.arguments()(
        output_dir=str(output_dir),
        deepspeed=dict(config.deepspeed) or None,
        report_to=list(config.trackers) or "none",
        use_cpu=not config.use_gpu,
        ddp_backend="nccl" if config.use_gpu else "gloo",
        **trl,
    )
