"""Run one rank: settings, rows, trainer, checkpoints, and one whole model at the end.

Heavy imports are inside the functions, so that output goes to the rank's log file before them.
"""

import contextlib
import importlib
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avr.config.errors import ConfigError
from avr.engines.imports import lasting_imports
from avr.engines.weights import local_model
from avr.memory.adapter import lora_config
from avr.storage import is_remote, remove, upload
from avr.training.job import ADAPTER, Job
from avr.training.rows import RowError
from avr.training.tokenised import RowCounts, load_shares, write_share


def run_rank(settings: dict[str, Any]) -> dict[str, Any]:
    """Train as one rank; return {"error": str} or results. Rank 0's value reaches the driver.

    Errors that another attempt would meet again (settings, rows) are returned, not raised: Ray
    Train answers an exception by restarting the worker group.
    """
    import ray.train

    job: Job = settings["job"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    log = job.here.logs / f"rank-{rank}.log"
    with _kept(job, log, rank), _output_to(log):
        print(f"rank {rank}: begins in process {os.getpid()} on {os.uname().nodename}", flush=True)
        try:
            return _train(job, rank, context.get_world_size())
        except BaseException:
            traceback.print_exc()
            raise


def _train(job: Job, rank: int, world_size: int) -> dict[str, Any]:
    import torch

    from avr.training.checkpoint import resume_from

    clock = _Clock(rank)
    prepared, error = None, ""
    try:
        prepared = _prepare(job, world_size)
    except (ConfigError, RowError, FileNotFoundError, ValueError, TypeError) as cause:
        traceback.print_exc()
        error = f"{type(cause).__name__}: {cause}"
    # All ranks learn of an error on any of them, and end together.
    errors = [""] * world_size
    torch.distributed.all_gather_object(errors, error)
    if prepared is None or any(errors):
        return {"error": next(e for e in errors if e)}
    arguments, tokenizer, model = prepared
    counts = _all_counts(job, tokenizer, arguments.max_length, world_size)
    if fault := counts.fault(arguments.max_length):
        return {"error": f"RowError: {fault}"}
    clock.say("rows ready")
    trainer = _trainer(job, arguments, tokenizer, model, counts, world_size)
    clock.say("model loaded")
    output = trainer.train(resume_from_checkpoint=resume_from(job))
    clock.say("trained")
    weights = job.here.weights
    adapter = weights / ADAPTER if job.config.lora is not None else None
    trainer.save_model(str(adapter or weights))  # collective: gathers the ZeRO shards on rank 0
    if rank == 0:
        from avr.training.weights import finish, keep_adapter, merge

        if adapter is not None:
            keep_adapter(adapter, job.model)
            merged = merge(adapter, trainer.model, model, job.config.save_dtype)
            for part in (merged, tokenizer):
                part.save_pretrained(weights)
        finish(weights, job.config.save_dtype)
        if is_remote(job.weights):
            upload(weights, job.weights)
    clock.say("saved")
    if is_remote(job.weights):
        torch.distributed.barrier()
        for copy in (job.here.checkpoints, job.here.tokenised, job.here.weights):
            remove(copy)  # by whichever rank of the node comes first
    return _outcome(trainer, output, counts)


class _Clock:
    """Note in the rank's log how many seconds have passed."""

    def __init__(self, rank: int):
        self._rank, self._started = rank, time.perf_counter()

    def say(self, what: str) -> None:
        seconds = time.perf_counter() - self._started
        print(f"rank {self._rank}: {what} after {seconds:.1f} s", flush=True)


def _outcome(trainer: Any, output: Any, counts: RowCounts) -> dict[str, Any]:
    """Make a rank's return value: counts, steps, last logged metrics and the trainer's summary."""
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    metrics = (logged[-1] if logged else {}) | output.metrics
    return {
        "counts": asdict(counts),
        "num_steps": trainer.state.global_step,
        "metrics": {k: v for k, v in metrics.items() if isinstance(v, int | float)},
    }


def _prepare(job: Job, world_size: int) -> tuple[Any, Any, str]:
    """Write this rank's part of the rows; return training arguments, tokenizer and model.

    Making the training arguments activates DeepSpeed.
    """
    import ray.train
    from transformers import AutoConfig, AutoTokenizer

    from avr.training.attention import attention_for
    from avr.training.settings import check_adapter, check_training, training_arguments

    for what, path in (("rows", job.rows), ("training folder", job.checkpoints)):
        if not path.exists() and not is_remote(path):
            raise FileNotFoundError(
                f"{what} {path} is not visible on {os.uname().nodename}: rows "
                "and output must lie on storage that all nodes share"
            )
    check_training(job.name, job.method, job.config)
    if job.config.deepspeed:
        # On CPUs transformers leaves this out, and DeepSpeed then takes the world for one rank
        # while the model is loaded. It adopts the process group that Ray Train has made.
        with lasting_imports():
            import deepspeed

        if not job.config.use_gpu:
            _without_compiler()
        backend = "nccl" if job.config.use_gpu else "gloo"
        deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False)
    model = local_model(job.model)
    trust = {"trust_remote_code": bool(job.config.trl.get("trust_remote_code"))}
    architecture = AutoConfig.from_pretrained(model, **trust).to_dict()
    loading = attention_for(job.name, job.config, architecture)
    # Asked again, because the driver may not have reached the model.
    check_adapter(job.name, job.config.lora, architecture)
    arguments = training_arguments(job.method, job.config, job.here.checkpoints, loading)
    tokenizer = AutoTokenizer.from_pretrained(model, **trust)
    folder = job.here.tokenised
    for share in _shares_of(job, ray.train.get_context(), arguments):
        write_share(
            job.method, tokenizer, job.rows, folder, arguments.max_length, share, world_size
        )
    return arguments, tokenizer, model


def _shares_of(job: Job, context: Any, arguments: Any) -> Iterable[int]:
    """List the shares that this rank encodes.

    They are its own, or its part of all shares where nodes share no folder. `context` is Ray
    Train's. Raises ConfigError for settings that need a shared folder.
    """
    world_size, on_node = context.get_world_size(), context.get_local_world_size()
    if not is_remote(job.tokenised):
        return [context.get_world_rank()]
    handed_on = job.method.has_reference and arguments.precompute_ref_log_probs
    if on_node < world_size and handed_on:
        raise ConfigError(
            f"{job.name}.trl.precompute_ref_log_probs: TRL hands these on in a file, and with "
            "run_dir on an object store the ranks of two nodes share none; switch it off, train on "
            "one node, or use a run_dir on a shared file system"
        )
    return range(context.get_local_rank(), world_size, on_node)


def _all_counts(job: Job, tokenizer: Any, max_length: int | None, world_size: int) -> RowCounts:
    """Add up the counts of all shares. Every share is written by now, so counts are only read."""
    shares = [
        write_share(
            job.method, tokenizer, job.rows, job.here.tokenised, max_length, rank, world_size
        )
        for rank in range(world_size)
    ]
    return sum(shares, RowCounts()).check()


def _trainer(
    job: Job, arguments: Any, tokenizer: Any, model: str, counts: RowCounts, world_size: int
) -> Any:
    """Make TRL's trainer. It loads the model itself, already partitioned under ZeRO-3."""
    from avr.training.checkpoint import callbacks, without_copies

    facts = asdict(counts) | {"max_length": arguments.max_length}
    lora = job.config.lora
    return without_copies(job.method.trainer())(
        model=model,
        args=arguments,
        train_dataset=load_shares(job.here.tokenised, world_size),
        processing_class=tokenizer,
        callbacks=callbacks(job, facts),
        peft_config=None if lora is None else lora_config(lora),
    )


def _without_compiler() -> None:
    """Keep DeepSpeed from compiling its shared-memory all-reduce (C++) at the first start on CPUs.

    Only reductions inside one node would use it. Without it they go through gloo, and neither a
    compiler nor its half minute is needed. The module is imported by name, because `deepspeed.comm`
    overwrites its attribute `torch` with the package torch.
    """
    communication: Any = importlib.import_module("deepspeed.comm.torch")
    communication.build_shm_op = lambda: None


@contextlib.contextmanager
def _kept(job: Job, log: Path, rank: int) -> Iterator[None]:
    """Send this rank's log to the store after the block, also after an error.

    Rank 0 sends its TensorBoard files as well. A rank sends only its own log: other files there may
    be from an earlier attempt with other ranks.
    """
    try:
        yield
    finally:
        if is_remote(job.logs):
            with contextlib.suppress(Exception):  # must not hide the error that the log is about
                job.logs.fs.put_file(str(log), (job.logs / log.name).path)
                if rank == 0:
                    upload(log.parent / "tensorboard", job.logs / "tensorboard")


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Append everything that this process prints, C++ libraries included, to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with path.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        os.close(saved[0])
        os.close(saved[1])
