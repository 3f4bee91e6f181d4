"""Trainer callbacks: checkpoints marked complete and recorded, progress written to a file.

Why no copy is made: the trainer's output folder IS Ray Train's run folder on shared storage. Under
ZeRO each rank writes its own optimizer and weight shards into `checkpoint-STEP/` there. When all
have (a barrier), rank 0 puts an empty file `complete` into it and hands the folder to
`ray.train.report` with `NO_UPLOAD`, which only records it and rotates old ones.
(`RayTrainReportCallback` of Ray copies the whole folder once per rank.)

Why resuming goes by the marker and not by `ray.train.get_checkpoint()`: Ray Train's controller
learns of a report when it next polls the ranks, and a rank killed until then takes the report
along. Tried with quick steps: killed right after the checkpoint of step 4, a run began again at 0,
and killed after that of step 12, at 8. A folder that was being written when a process died has no
marker and is never resumed from.
"""

from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode
from transformers import TrainerCallback

from avr.training.progress import append_event

COMPLETE = "complete"


def newest_complete(checkpoints: Path) -> str | None:
    """The folder to resume from; None to begin at step 0."""
    found = [marker.parent for marker in checkpoints.glob(f"checkpoint-*/{COMPLETE}")]
    newest = max(found, key=lambda f: int(f.name.rpartition("-")[2]), default=None)
    return str(newest) if newest else None


class RecordCheckpoint(TrainerCallback):
    """After every save of the trainer: all ranks meet, then rank 0 marks and records the folder."""

    def __init__(self, events: Path):
        self._events = events

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called on every rank once its part of `checkpoint-STEP` is written."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        first = ray.train.get_context().get_world_rank() == 0
        torch.distributed.barrier()
        if first:
            (folder / COMPLETE).touch()
            append_event(self._events, {"event": "checkpoint", "step": state.global_step})
        ray.train.report(
            {"step": state.global_step},
            checkpoint=Checkpoint(str(folder)) if first else None,
            checkpoint_dir_name=folder.name,
            checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
        )


class RecordProgress(TrainerCallback):
    """On rank 0: the start and every logging step, one event each."""

    def __init__(self, events: Path, facts: dict[str, Any]):
        self._events, self._facts = events, facts

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The step is above 0 when a checkpoint was loaded."""
        if state.is_world_process_zero:
            begin = {"event": "begin", "step": state.global_step, "max_steps": state.max_steps}
            append_event(self._events, begin | self._facts)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Metrics as the trainer logs them."""
        if state.is_world_process_zero and logs:
            metrics = {k: v for k, v in logs.items() if isinstance(v, int | float)}
            event = {"event": "log", "step": state.global_step, "max_steps": state.max_steps}
            append_event(self._events, event | {"metrics": metrics})
