"""Train a model on rows with Ray Train, and leave the trained model in a folder.

Folders, for `output=runs/a/rsft`:
    runs/a/rsft/                     the model; appears at the end, by one rename
    runs/a/rsft/training.json        what was trained, on what, with what outcome
    runs/a/rsft/adapter/             of a LoRA training: the adapter that the model has in it
    runs/a/rsft.training/logs/       rank-N.log, tensorboard/, events.jsonl
    runs/a/rsft.training/FINGERPRINT/  checkpoints and tokenised rows; gone once the model is there
The fingerprint covers model, rows and settings. The same call made again after a kill continues
from the last recorded checkpoint; another call starts from its own beginning. All of it must lie
on storage that every node sees: NFS, one machine's disk, or an object store. In a store the model
appears file by file, and is whole when training.json is there.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from avr.config.training import TrainingConfig
from avr.storage import Location, is_remote, remove, write_text
from avr.training.job import (
    ADAPTER,
    RECORD,
    TrainingResult,
    absolute,
    begun,
    fingerprint_of,
    finished_result,
    job_of,
)
from avr.training.methods.method import Method
from avr.training.progress import Follower


def train(
    name: str,
    method: Method,
    config: TrainingConfig,
    model: str | Path,
    rows: str | Location,
    output: str | Location,
    *,
    say: Callable[[str], None] = print,
) -> TrainingResult:
    """Train `model` on `rows` by `method` and leave the result at `output`.

    `name` is the training's name in messages, and the name of the section that holds `config`.
    `model` is a folder or a Hub id, `rows` a Parquet file or folder. `say` gets one line
    per logging step. If the same call has finished before, its result is returned.
    Raises TrainingError, ConfigError, RowError.
    """
    # This imports torch, which takes seconds; a job need not begin with them.
    from avr.training.group import run_group

    started = time.perf_counter()
    rows, output = absolute(rows), absolute(output)
    model = str(Path(model).resolve()) if Path(model).is_dir() else str(model)
    fingerprint = fingerprint_of(method, config, model, rows)
    finished = finished_result(output, fingerprint)
    if finished:
        return finished
    job = job_of(name, method, config, model, rows, output, fingerprint)
    if is_remote(output):
        begun(output, fingerprint).write_text("")
    # A killed call may have left half a model here.
    remove(job.weights)
    if not is_remote(output):
        for folder in (job.logs, job.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
    with Follower(name, (job.events, job.failures), say):
        outcome = run_group(job)
    result = TrainingResult(
        method=method.name,
        model=str(output),
        **outcome["counts"],
        num_steps=outcome["num_steps"],
        metrics=outcome["metrics"],
        seconds=round(time.perf_counter() - started, 2),
    )
    record = {
        "fingerprint": fingerprint,
        "result": asdict(result),
        "trained_from": model,
        "rows": str(rows),
        "settings": asdict(config),
        "adapter": ADAPTER if config.lora is not None else None,
    }
    # Record first, rename second: a folder at `output` is always a whole model with its record.
    write_text(job.weights / RECORD, json.dumps(record, indent=2))
    if not is_remote(output):
        job.weights.rename(output)
    remove(job.checkpoints.parent)
    return result
