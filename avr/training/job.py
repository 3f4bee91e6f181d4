"""One training as values: what it is, where its files lie, when two calls are the same, its result.

Free of ray, torch and trl.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from avr.config.errors import ConfigError
from avr.config.training import TrainingConfig
from avr.core.messages import content_id
from avr.engines.weights import weights_id
from avr.storage import Location, is_remote, location, scratch
from avr.training.methods.method import Method
from avr.training.rows import parquet_files

RECORD = "training.json"
# The number of ranks is among them: ZeRO checkpoints are tied to it.
DECISIVE = ("num_workers", "use_gpu", "trl", "deepspeed", "save_dtype")


class TrainingError(RuntimeError):
    """Training failed; the message holds the cause on the rank where it happened."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a rank needs to know; paths are absolute and on storage all nodes share.

    `checkpoints` is the folder Ray Train keeps, `weights` where rank 0 leaves the finished model.
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
        """What rank 0 reports, one JSON object a line."""
        return self.logs / "events.jsonl"

    @property
    def failures(self) -> Location:
        """What Ray Train's controller reports; a file of its own, so that each has one writer."""
        return self.logs / "failures.jsonl"

    @property
    def here(self) -> "Here":
        """The job's folders as this node's programs see them: of those in a store, copies.

        DeepSpeed and TRL write to folders. On a store these are copies on each node: ranks send
        their parts of a checkpoint there, and the first of a node brings all parts back.
        """
        if not is_remote(self.weights):
            folders = (self.checkpoints, self.tokenised, self.weights, self.logs)
            return Here(*(Path(str(folder)) for folder in folders))
        copy = scratch() / "training" / content_id(str(self.weights), self.fingerprint)
        return Here(*(copy / each for each in ("checkpoints", "tokenised", "weights", "logs")))


@dataclass(frozen=True, slots=True)
class Here:
    """A job's folders on one node."""

    checkpoints: Path
    tokenised: Path
    weights: Path
    logs: Path


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A finished training. `num_rows == num_trained + num_too_long + num_unusable`.

    `num_tokens` and `num_loss_tokens` are those of one pass over the trained rows, `metrics` the
    last logged ones with the trainer's summary, `seconds` the wall time of the call that finished.
    `unusable` says why the first of the rows that do not go with the tokenizer was left out.
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
    """16 hexadecimal digits over all that decides the outcome: model and rows by their content."""
    settings = {name: getattr(config, name) for name in DECISIVE}
    digest = hashlib.sha256(json.dumps([asdict(method), settings, weights_id(model)]).encode())
    for file in parquet_files(rows):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def begun(output: Location, fingerprint: str) -> Location:
    """On a store, what says that a model without a record there is a half of this call's."""
    return output.with_name(f"{output.name}.training") / fingerprint / "begun"


def finished_result(output: Location, fingerprint: str) -> TrainingResult | None:
    """The result that is already at `output`, if it is this call's."""
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
    """An absolute path. Relative ones would mean another place in a worker."""
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
    """The job with its folders beside `output` (layout: see `launch`)."""
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
