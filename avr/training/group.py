"""Run the group of ranks on Ray Train: its restarts, its environment."""

import os
from collections.abc import Mapping
from typing import Any

from ray.train import (
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train import TrainingFailedError as RayTrainingFailed
from ray.train.torch import TorchTrainer

from avr.storage import Location, arrow_filesystem, path_of
from avr.training.failures import explain, first_cause, headline
from avr.training.job import Job, TrainingError
from avr.training.progress import append_event
from avr.training.worker import run_rank

# Checkpoints to keep. A restart reads the newest whole one, and the training's end removes all.
NUM_KEPT = 2


def run_group(job: Job) -> dict[str, Any]:
    """Run all ranks to the end, restarts included, and return rank 0's result.

    Raises TrainingError.
    """
    # Ray Train's controller checks its workers this often (default 2 s), so a run ends up to that
    # much later than its work does. It is read from the driver's environment.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    config = job.config
    if not config.use_gpu:
        # This saves a process. Preemptions that it has not announced are recognised all the same.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    scaling = ScalingConfig(
        num_workers=config.num_workers,
        use_gpu=config.use_gpu,
        resources_per_worker=dict(config.resources_per_worker) or None,
    )
    run = RunConfig(
        name=job.checkpoints.name,
        storage_path=path_of(job.checkpoints.parent),
        storage_filesystem=arrow_filesystem(job.checkpoints).get("filesystem"),
        failure_config=FailureConfig(
            max_failures=config.max_failures,
            max_preemption_failures=config.max_preemption_failures,
        ),
        checkpoint_config=CheckpointConfig(
            num_to_keep=config.trl.get("save_total_limit", NUM_KEPT)
        ),
        callbacks=[RecordFailures(job.failures)],
        worker_runtime_env={"env_vars": environment(job)},
        # `RecordFailures` reports the failures; the rank logs hold the rest.
        logging_config=LoggingConfig(log_level="CRITICAL"),
    )
    trainer = Trainer(
        run_rank, train_loop_config={"job": job}, scaling_config=scaling, run_config=run
    )
    try:
        outcome = trainer.fit().return_value
    except RayTrainingFailed as error:
        raise TrainingError(explain(job.name, job.logs, error)) from error
    if "error" in outcome:
        raise TrainingError(f"{job.name}: {outcome['error']}\n  logs: {job.logs}")
    return dict(outcome)


# Callbacks of Ray Train that start an actor each, which costs a process and seconds of imports.
# Datasets: rows are read from Arrow files, not through Ray Data. PlacementGroupCleaner: it frees
# the ranks' devices if the controller dies, but the end of the job does that as well; and it asks
# the dashboard, and without one it warns several times a second.
NOT_NEEDED = ("DatasetsCallback", "PlacementGroupCleanerCallback")


class Trainer(TorchTrainer):
    """Adapt TorchTrainer: leave out the callbacks that we do not need."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [c for c in callbacks if type(c).__name__ not in NOT_NEEDED]


class RecordFailures(UserCallback):
    """Record each failure of the worker group, as a callback on Ray Train's controller."""

    def __init__(self, file: Location):
        self._file = file

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Record the failure. Called before Ray Train decides whether to restart the group."""
        rank, text = first_cause(worker_exceptions)
        event = {"event": "failure", "rank": rank, "cause": headline(text)}
        append_event(self._file, event)


def environment(job: Job) -> dict[str, str]:
    """Return the environment variables of the ranks.

    Ray sets the number of threads itself: OMP_NUM_THREADS is the number of a rank's CPUs.
    """
    variables = {
        # Ray Train turns `print` into log lines; dill, which hashes functions for `datasets`,
        # captures what `dis` prints: thousands of "Disassembly of <code object" lines per map.
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
        # DeepSpeed 0.19 calls collectives by names that torch 2.13 deprecates: 4 lines per step.
        "PYTHONWARNINGS": "ignore::FutureWarning:torch.distributed.c10d_logger",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TENSORBOARD_LOGGING_DIR": str(job.here.logs / "tensorboard"),
        "WANDB_DIR": str(job.here.logs),
    }
    if not job.config.use_gpu:
        variables["DS_ACCELERATOR"] = "cpu"
        # DeepSpeed's import of its Muon optimizer calls torch.compile, which imports the whole
        # compiler: 4 s per rank. Nothing is compiled for CPUs here.
        variables["TORCHDYNAMO_DISABLE"] = "1"
    return variables
