"""Configure one training job."""

from dataclasses import dataclass, field
from typing import Any

from avr.config.fields import at_least, speed_only


def _zero3() -> dict[str, Any]:
    return {
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "bf16": {"enabled": "auto"},
    }


@dataclass
class TrainingConfig:
    """Configure one training job on Ray Train: `num_workers` ranks under DeepSpeed.

    `trl` holds SFTConfig or DPOConfig fields and `deepspeed` a DeepSpeed configuration, under their
    own names. A checkpoint is written every `checkpoint_every_s`, counted from the end of the last
    one, but not before ten times the time that the last one took to write. `trl.save_steps` or
    `trl.save_strategy` make it be written by steps instead. `save_dtype` (bfloat16, float16,
    float32) casts the saved weights; unset, they stay as trained. The worker group restarts up to
    `max_failures` times from the last checkpoint; preemptions are counted apart, up to
    `max_preemption_failures` (-1: any number). `trackers`: tensorboard, wandb, mlflow.
    `lora` holds fields of peft's LoraConfig under their own names ({}: its defaults). Then only an
    adapter is trained, and the result is the model with the adapter merged into it; null trains all
    weights.
    """

    # Decides results: ZeRO checkpoints are tied to the number of ranks.
    num_workers: int = at_least(1, 8)
    # So does this: kernels of a GPU round otherwise, and a checkpoint goes on with the weights of
    # half a training. An engine's texts are finished ones, wherever they were made.
    use_gpu: bool = True
    resources_per_worker: dict[str, float] = speed_only(default_factory=dict)
    max_failures: int = at_least(0, 2, speed=True)
    max_preemption_failures: int = at_least(-1, -1, speed=True)
    trl: dict[str, Any] = field(default_factory=dict)
    deepspeed: dict[str, Any] = field(default_factory=_zero3)
    lora: dict[str, Any] | None = None
    checkpoint_every_s: float = at_least(0, 600.0, speed=True)
    save_dtype: str | None = None
    trackers: list[str] = speed_only(default_factory=lambda: ["tensorboard"])
