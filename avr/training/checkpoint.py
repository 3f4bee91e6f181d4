"""Call back from trainers: mark checkpoints complete, record them, write progress to a file.

Why no copy is made: the trainer's output folder IS Ray Train's run folder on shared storage. Under
ZeRO each rank writes its own optimizer and weight shards into `checkpoint-STEP/` there. When all
have done so (a barrier), rank 0 puts an empty file `complete` into the folder and passes it to
`ray.train.report` with `NO_UPLOAD`, which only records it and rotates old ones. (Ray's
`RayTrainReportCallback` copies the whole folder once per rank.) Where the run folder is in an
object store, the trainer writes to a folder of its node. The first rank of each node then sends
the files of all ranks of that node, each file once. Ray's `ASYNC` mode would save nothing: there is
no copy, and what a node sends counts as writing, which takes at most one part in ten of the time
(`checkpoint_every_s`).

Why resuming goes by the marker and not by `ray.train.get_checkpoint()`: Ray Train's controller
learns of a report when it next polls the ranks. If a rank is killed before that, its report is
lost. Tried with quick steps: a run that was killed right after the checkpoint of step 4 began again
at step 0, and one killed after the checkpoint of step 12 began at step 8. A folder that was being
written when a process died has no marker and is never resumed from.
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
    """Find the name of the folder to resume from; None to begin at step 0."""
    found = [marker.parent.name for marker in checkpoints.glob(f"checkpoint-*/{COMPLETE}")]
    return max(found, key=lambda name: int(name.rpartition("-")[2]), default=None)


def resume_from(job: Job) -> str | None:
    """Return a folder on this node to resume from; None to begin at step 0.

    It is a collective call, and gives all ranks the same checkpoint.
    """
    newest = [newest_complete(job.checkpoints) if _rank() == 0 else None]
    torch.distributed.broadcast_object_list(newest, src=0)
    name, here = newest[0], job.here.checkpoints
    if is_remote(job.checkpoints):
        if _first_of_node():
            # A killed attempt may have left files of other ranks, or half-written ones. They must
            # not be uploaded with the next checkpoint of the same step.
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
    """Record every save: all ranks meet, then rank 0 marks and records the folder."""

    def __init__(self, job: Job):
        self._job = job

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark and record the checkpoint, and send it to the store if there is one.

        Called on every rank once its part of `checkpoint-STEP` is written.
        """
        folder = self._job.checkpoints / f"checkpoint-{state.global_step}"
        first = _rank() == 0
        # After this the parts of all ranks are written.
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
    """Make all ranks save at the same step, when rank 0's timetable says so.

    It comes after `RecordCheckpoint`, so that the time for marking and sending a checkpoint counts
    as time for writing it.
    """

    def __init__(self, timetable: Timetable):
        self._timetable = timetable

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock, after a restart as well."""
        self._timetable.begin_training()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint where one is due, except after the last step. Called on every rank.

        After the last step the model itself is saved.
        """
        if state.global_step >= state.max_steps:
            return
        due = torch.tensor([self._timetable.due()], dtype=torch.uint8, device=args.device)
        torch.distributed.broadcast(due, src=0)
        if due.item():
            self._timetable.begin_save()
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note that the checkpoint is whole."""
        self._timetable.end_save()


def callbacks(job: Job, facts: dict[str, Any]) -> list[TrainerCallback]:
    """Make all callbacks of a training; `facts` are reported with its start."""
    last = [RecordProgress(job.events, facts)]
    if saves_by_time(job.config):
        timetable = Timetable(job.config.checkpoint_every_s)
        return [RecordCheckpoint(job), SaveByTime(timetable), *last]
    return [RecordCheckpoint(job), *last]


def without_copies(trainer: Any) -> Any:
    """Make a trainer class with checkpoints that hold only the files DeepSpeed resumes from.

    The trainer would gather the whole model for each checkpoint as well: 16 GB for an 8B model,
    which nothing reads. Without DeepSpeed a training resumes from that model, so it is kept.
    """

    class Trainer(trainer):
        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            if not (_internal_call and self.is_deepspeed_enabled):
                super().save_model(output_dir, _internal_call)

    return Trainer


class RecordProgress(TrainerCallback):
    """Record the start and every logging step on rank 0, one event each."""

    def __init__(self, events: Location, facts: dict[str, Any]):
        self._events, self._facts = events, facts

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Record the start. Its step is above 0 when a checkpoint was loaded."""
        if state.is_world_process_zero:
            begin = {"event": "begin", "step": state.global_step, "max_steps": state.max_steps}
            append_event(self._events, begin | self._facts)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Record the metrics as the trainer logs them; only numbers are kept."""
        if state.is_world_process_zero and logs:
            metrics = {k: v for k, v in logs.items() if isinstance(v, int | float)}
            event = {"event": "log", "step": state.global_step, "max_steps": state.max_steps}
            append_event(self._events, event | {"metrics": metrics})
