"""TRL and DeepSpeed settings: passed through under their own names, checked by name first.

Nothing of TRL is mirrored here. The few fields a run must decide itself are listed in `OWNED` with
the reason, and naming one of them is an error rather than silently overridden.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from avr.config import ConfigError, TrainingConfig, check_values

KINDS = ("rsft", "dpo")
TRACKERS = ("tensorboard", "wandb", "mlflow")

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


def check_training(kind: str, config: TrainingConfig) -> None:
    """Raises ConfigError for settings TRL does not have or that this launcher decides.

    Imports TRL (seconds): a job calls it once at its start, long before it has rows.
    """
    if kind not in KINDS:
        raise ConfigError(f"training kind {kind!r}, expected one of {', '.join(KINDS)}")
    check_values(config, f"{kind}.")
    check_names(kind, config.trl, [f.name for f in fields(_arguments_class(kind))])
    check_deepspeed(config.deepspeed)
    for tracker in config.trackers:
        if tracker not in TRACKERS:
            raise ConfigError(f"{kind}.trackers: {tracker!r} is not one of {', '.join(TRACKERS)}")


def check_names(kind: str, trl: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises ConfigError naming the first key of `trl` that is unknown or not the user's to set."""
    for name in trl:
        if name in OWNED:
            raise ConfigError(f"{kind}.trl.{name} cannot be set: {OWNED[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{kind}.trl.{name} is no field of TRL's {CLASSES[kind]}{hint}")
    if trl.get("packing") and trl.get("packing_strategy", "bfd") != "bfd":
        raise ConfigError(f"{kind}.trl.packing_strategy: only 'bfd' leaves conversations whole")


def check_deepspeed(deepspeed: Mapping[str, Any]) -> None:
    """Raises ConfigError where the trained weights could not be gathered into one model."""
    zero = deepspeed.get("zero_optimization", {})
    if zero.get("stage") == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise ConfigError(
            "deepspeed.zero_optimization.stage3_gather_16bit_weights_on_model_save must be true: "
            "without it ZeRO-3 saves empty weights"
        )


CLASSES = {"rsft": "SFTConfig", "dpo": "DPOConfig"}


def _arguments_class(kind: str) -> Any:
    if kind == "rsft":
        from trl.trainer.sft_config import SFTConfig

        return SFTConfig
    from trl.trainer.dpo_config import DPOConfig

    return DPOConfig


def training_arguments(kind: str, config: TrainingConfig, output_dir: Path) -> Any:
    """SFTConfig or DPOConfig; DeepSpeed's part is active from here on.

    Build it before the model is loaded: that is what makes `from_pretrained` partition the weights
    while it reads them, instead of every rank holding all of them.
    """
    trl = dict(config.trl)
    # Ray Train rotates checkpoints (CheckpointConfig.num_to_keep): it takes one off its record
    # before it deletes the files. The trainer would delete files that the record still names,
    # which makes the next start fail.
    trl.pop("save_total_limit", None)
    if kind == "rsft" and not trl.get("packing"):
        trl["dataset_kwargs"] = {"skip_prepare_dataset": True}
    trl.setdefault("disable_tqdm", True)
    return _arguments_class(kind)(
        output_dir=str(output_dir),
        deepspeed=dict(config.deepspeed) or None,
        report_to=list(config.trackers) or "none",
        use_cpu=not config.use_gpu,
        ddp_backend="nccl" if config.use_gpu else "gloo",
        **trl,
    )
