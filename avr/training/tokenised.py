"""Tokenised rows on shared storage: every rank encodes its share once, all ranks map all shares.

Where nodes share an object store only, the ranks of each node encode all shares for their own.

A share is an Arrow stream file, written to a temporary name and renamed, beside a JSON file of
counts. Done here rather than by TRL's `dataset.map` because (1) DPOTrainer has no way in for token
ids, (2) N ranks then work in parallel without further processes, (3) a restarted worker group finds
the files, and (4) `precompute_ref_log_probs` caches beside the data set's files, so these must lie
where all ranks see them.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from avr.storage import Location
from avr.training.rows import Example, Tokenizer, check_prompt_parity, encode, read_rows

NUM_PARITY_ROWS = 64  # per rank; the prefix and BOS checks of `encode` see every row anyway
EXAMPLES_PER_BATCH = 512


@dataclass(frozen=True, slots=True)
class RowCounts:
    """What became of the rows: `num_rows == num_trained + num_too_long`, always.

    `num_tokens` and `num_loss_tokens` are those of one pass over the trained rows.
    """

    num_rows: int = 0
    num_trained: int = 0
    num_too_long: int = 0
    num_tokens: int = 0
    num_loss_tokens: int = 0

    def __add__(self, other: "RowCounts") -> "RowCounts":
        mine, theirs = asdict(self), asdict(other)
        return RowCounts(**{name: mine[name] + theirs[name] for name in mine})

    def check(self) -> "RowCounts":
        """Itself. Raises AssertionError if a row got lost."""
        assert self.num_rows == self.num_trained + self.num_too_long, self
        return self


def write_share(
    kind: str,
    tokenizer: Tokenizer,
    rows: Location,
    folder: Path,
    max_length: int | None,
    rank: int,
    world_size: int,
) -> RowCounts:
    """Encodes this rank's rows; those of more than `max_length` tokens are left out and counted."""
    share, counts_file = _files(folder, rank)
    if counts_file.is_file():
        return RowCounts(**json.loads(counts_file.read_text()))
    check_prompt_parity(
        tokenizer, list(islice(read_rows(kind, rows, rank, world_size), NUM_PARITY_ROWS))
    )
    folder.mkdir(parents=True, exist_ok=True)
    counts = RowCounts()
    partial = share.with_suffix(".partial")
    examples = (encode(kind)(tokenizer, r) for r in read_rows(kind, rows, rank, world_size))
    schema = pa.schema([(name, pa.list_(pa.int32())) for name in TRL_COLUMNS[kind]])
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while batch := list(islice(examples, EXAMPLES_PER_BATCH)):
            kept = [e for e in batch if max_length is None or e.length <= max_length]
            counts += _count(batch, kept)
            writer.write_batch(pa.RecordBatch.from_pylist([e.columns for e in kept], schema))
    partial.replace(share)
    temporary = counts_file.with_suffix(".partial")
    temporary.write_text(json.dumps(asdict(counts.check())))
    temporary.replace(counts_file)
    return counts


TRL_COLUMNS = {
    "rsft": ("input_ids", "labels"),
    "dpo": ("prompt_ids", "chosen_ids", "rejected_ids"),
}


def load_shares(folder: Path, world_size: int) -> Any:
    """All shares as one memory-mapped `datasets.Dataset`, in rank order."""
    from datasets import Dataset, concatenate_datasets

    return concatenate_datasets([Dataset.from_file(str(s)) for s in _shares(folder, world_size)])


def _shares(folder: Path, world_size: int) -> Iterator[Path]:
    for rank in range(world_size):
        share, counts_file = _files(folder, rank)
        if RowCounts(**json.loads(counts_file.read_text())).num_trained:
            yield share


def _files(folder: Path, rank: int) -> tuple[Path, Path]:
    return folder / f"rank-{rank}.arrow", folder / f"rank-{rank}.json"


def _count(batch: list[Example], kept: list[Example]) -> RowCounts:
    return RowCounts(
        num_rows=len(batch),
        num_trained=len(kept),
        num_too_long=len(batch) - len(kept),
        num_tokens=sum(
            len(ids) for e in kept for name, ids in e.columns.items() if name != "labels"
        ),
        num_loss_tokens=sum(e.num_loss_tokens for e in kept),
    )
