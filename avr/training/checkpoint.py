"""Trainer callbacks: checkpoints marked complete and recorded, progress written to a file.

Why no copy is made: the trainer's output folder IS Ray Train's run folder on shared storage. Under
ZeRO each rank writes its own optimizer and weight shards into `checkpoint-STEP/` there. When all
have (a barrier), rank 0 puts an empty file `complete` into it and hands the folder to
`ray.train.report` with `NO_UPLOAD`, which only records it and rotates old ones.
(`RayTrainReportCallback` of Ray copies the whole folder once per rank.) Where the run folder is in
an object store the trainer writes to a folder of its node, and the first rank of each node sends
what all of that node's ranks have written, each file once. Ray's `ASYNC` mode would have nothing to
do: there is no copy, and what a node sends counts as writing, of which there is at most one part in
ten of the time (`checkpoint_every_s`).

Why resuming goes by the marker and not by `ray.train.get_checkpoint()`: Ray Train's controller
learns of a report when it next polls the ranks, and a rank killed until then takes the report
along. Tried with quick steps: killed right after the checkpoint of step 4, a run began again at 0,
and killed after that of step 12, at 8. A folder that was being written when a process died has no
marker and is never resumed from.
"""

import shutil
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode
from transformers import TrainerCallback

from avr.storage import Location, arrow_filesystem, download, is_remote, path_of, upload
from avr.training.job import Job
from avr.training.progress import append_event
from avr.training.saving import Timetable, saves_by_time

COMPLETE = "complete"


def newest_complete(checkpoints: Location) -> str | None:
    """The name of the folder to resume from; None to begin at step 0."""
    found = [marker.parent.name for marker in checkpoints.glob(f"checkpoint-*/{COMPLETE}")]
    return max(found, key=lambda name: int(name.rpartition("-")[2]), default=None)


def resume_from(job: Job) -> str | None:
    """A folder of this node to resume from, the same checkpoint on all ranks; a collective call."""
    newest = [newest_complete(job.checkpoints) if _rank() == 0 else None]
    torch.distributed.broadcast_object_list(newest, src=0)
    name, here = newest[0], Path(job.here.checkpoints)
    if is_remote(job.checkpoints):
        if _first_of_node():
            # What an attempt that was killed has left, perhaps of other ranks, perhaps half
            # written, must not go up with the next checkpoint of the same step.
            shutil.rmtree(here, ignore_errors=True)
            if name is not None:
                download(job.checkpoints / name, here / name)
        torch.distributed.barrier()
    return None if name is None else str(here / name)


def _rank() -> int:
    return int(ray.train.get_context().get_world_rank())


def _first_of_node() -> bool:
    return int(ray.train.get_context().get_local_rank()) == 0


class RecordCheckpoint(TrainerCallback):
    """After every save of the trainer: all ranks meet, then rank 0 marks and records the folder."""

    def __init__(self, job: Job):
        self._job = job

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called on every rank once its part of `checkpoint-STEP` is written."""
        folder = self._job.checkpoints / f"checkpoint-{state.global_step}"
        first = _rank() == 0
        torch.distributed.barrier()
        if is_remote(folder):
            if _first_of_node():
                here = Path(args.output_dir) / folder.name
                upload(here, folder)
                shutil.rmtree(here)
            torch.distributed.barrier()
        if first:
            (folder / COMPLETE).touch()
            append_event(self._job.events, {"event": "checkpoint", "step": state.global_step})
        ray.train.report(
            {"step": state.global_step},
            checkpoint=Checkpoint(path_of(folder), **arrow_filesystem(folder)) if first else None,
            checkpoint_dir_name=folder.name,
            checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
        )


class SaveByTime(TrainerCallback):
    """Has all ranks save at the same step, when rank 0's timetable says so.

    It comes after `RecordCheckpoint`, so that marking and sending a checkpoint count as writing it.
    """

    def __init__(self, timetable: Timetable):
        self._timetable = timetable

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The clock starts, after a restart as well."""
        self._timetable.begin_training()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called on every rank; after the last step the model itself is saved."""
        if state.global_step >= state.max_steps:
            return
        due = torch.tensor([self._timetable.due()], dtype=torch.uint8, device=args.device)
        torch.distributed.broadcast(due, src=0)
        if due.item():
            self._timetable.begin_save()
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The checkpoint is whole."""
        self._timetable.end_save()


def callbacks(job: Job, facts: dict[str, Any]) -> list[TrainerCallback]:
    """All of a training's; `facts` are told with its start."""
    last = [RecordProgress(job.events, facts)]
    if saves_by_time(job.config):
        timetable = Timetable(job.config.checkpoint_every_s)
        return [RecordCheckpoint(job), SaveByTime(timetable), *last]
    return [RecordCheckpoint(job), *last]


def without_copies(trainer: Any) -> Any:
    """The trainer class whose checkpoints hold what DeepSpeed resumes from and nothing else.

    The trainer would gather the whole model for each of them as well: 16 GB of an 8B model, which
    nothing reads. Without DeepSpeed it is what a training resumes from.
    """

    class Trainer(trainer):  # type: ignore[misc]
        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            if not (_internal_call and self.is_deepspeed_enabled):
                super().save_model(output_dir, _internal_call)

    return Trainer


class RecordProgress(TrainerCallback):
    """On rank 0: the start and every logging step, one event each."""

    def __init__(self, events: Location, facts: dict[str, Any]):
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
