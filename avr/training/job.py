"""Describe one training as values: its settings, its folders, its fingerprint, its result.

The fingerprint tells whether two calls are the same. The module is free of ray, torch and trl.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from avr.config.errors import ConfigError
from avr.config.fields import decisive
from avr.config.training import TrainingConfig
from avr.core.messages import content_id
from avr.engines.weights import weights_id
from avr.storage import Location, is_remote, location, scratch
from avr.training.methods.method import Method
from avr.training.rows import parquet_files

RECORD = "training.json"
ADAPTER = "adapter"  # the folder inside the model's that keeps an adapter by itself


class TrainingError(RuntimeError):
    """Signal a failed training; the message holds the cause on the rank where it happened."""


@dataclass(frozen=True, slots=True)
class Job:
    """Hold all that a rank needs to know; paths are absolute, on storage that all nodes share.

    `checkpoints` is the folder that Ray Train keeps. Rank 0 leaves the finished model in `weights`.
    """

    name: str
    method: Method
    config: TrainingConfig
    model: str
    fingerprint: str
    rows: Location
    checkpoints: Location
    tokenised: Location
    weights: Location
    logs: Location

    @property
    def events(self) -> Location:
        """Return the file of rank 0's events, one JSON object per line."""
        return self.logs / "events.jsonl"

    @property
    def failures(self) -> Location:
        """Return the file of events of Ray Train's controller.

        It is a file of its own, so that each file has one writer.
        """
        return self.logs / "failures.jsonl"

    @property
    def here(self) -> "Here":
        """Return the job's folders as this node's programs see them; copies of those in a store.

        DeepSpeed and TRL write to folders. With a store these are copies on each node: the first
        rank of a node sends its ranks' parts of a checkpoint to the store, and brings all parts
        back.
        """
        if not is_remote(self.weights):
            folders = (self.checkpoints, self.tokenised, self.weights, self.logs)
            return Here(*(Path(str(folder)) for folder in folders))
        # Named by output and fingerprint: two trainings on one node must not share a copy.
        copy = scratch() / "training" / content_id(str(self.weights), self.fingerprint)
        return Here(*(copy / each for each in ("checkpoints", "tokenised", "weights", "logs")))


@dataclass(frozen=True, slots=True)
class Here:
    """Name the folders of a job on one node."""

    checkpoints: Path
    tokenised: Path
    weights: Path
    logs: Path


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Hold the result of a training: num_rows == num_trained + num_too_long + num_unusable.

    `num_tokens` and `num_loss_tokens` count one pass over the trained rows. `metrics` holds the
    last logged metrics with the trainer's summary, `seconds` the wall time of the call that
    finished. `unusable` says why the first row that does not fit the tokenizer was left out.
    """

    method: str
    model: str
    num_rows: int
    num_trained: int
    num_too_long: int
    num_tokens: int
    num_loss_tokens: int
    num_steps: int
    metrics: dict[str, float]
    seconds: float
    num_unusable: int = 0
    unusable: str = ""


def fingerprint_of(method: Method, config: TrainingConfig, model: str, rows: Location) -> str:
    """Hash all that decides the outcome to 16 hexadecimal digits; model and rows by content."""
    settings = {name: getattr(config, name) for name in decisive(config)}
    # Another class may do other things with the same fields.
    by = {"made_by": type(method).__name__, **asdict(method)}
    digest = hashlib.sha256(json.dumps([by, settings, weights_id(model)]).encode())
    for file in parquet_files(rows):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def begun(output: Location, fingerprint: str) -> Location:
    """Return the marker file by which this call recognises its own half-written model in a store.

    Such a model has no record yet.
    """
    return output.with_name(f"{output.name}.training") / fingerprint / "begun"


def finished_result(output: Location, fingerprint: str) -> TrainingResult | None:
    """Read the result that is already at `output`; None where this call has not finished yet.

    Raises ConfigError for an output that another call has made.
    """
    if not output.exists():
        return None
    record = output / RECORD
    if record.is_file():
        stored = json.loads(record.read_text())
        if stored["fingerprint"] == fingerprint:
            return TrainingResult(**stored["result"])
    elif is_remote(output) and begun(output, fingerprint).exists():
        return None  # the record is written last
    raise ConfigError(
        f"{output} exists and was not made by this call (model, rows or settings differ): "
        "choose another output or remove it"
    )


def absolute(path: str | Location) -> Location:
    """Make a path absolute. A relative one would mean another place in a worker."""
    there = location(path)
    return there if is_remote(there) else Path(there).expanduser().resolve()


def job_of(
    name: str,
    method: Method,
    config: TrainingConfig,
    model: str,
    rows: Location,
    output: Location,
    fingerprint: str,
) -> Job:
    """Make the job with its folders beside `output` (layout: see `launch`)."""
    folder = output.with_name(f"{output.name}.training")
    state = folder / fingerprint
    return Job(
        name=name,
        method=method,
        config=config,
        model=model,
        fingerprint=fingerprint,
        rows=rows,
        checkpoints=state / "checkpoints",
        tokenised=state / "tokenised",
        weights=output if is_remote(output) else state / "weights",
        logs=folder / "logs",
    )
