"""Keep tokenised rows on shared storage: each rank encodes its share once, and maps all shares.

Where nodes share only an object store, the ranks of each node encode all shares for their node.

A share is an Arrow stream file, written to a temporary name and renamed, beside a JSON file of
counts. This is done here and not by TRL's `dataset.map`, because (1) DPOTrainer does not take token
ids, (2) N ranks then work in parallel without further processes, (3) a restarted worker group finds
the files, and (4) `precompute_ref_log_probs` caches beside the data set's files, so these must lie
where all ranks see them.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from avr.storage import Location
from avr.training.methods.method import Method
from avr.training.rows import (
    Example,
    Row,
    Tokenizer,
    UnusableRow,
    check_prompt_parity,
    read_rows,
)

NUM_PARITY_ROWS = 64  # per rank; the prefix and BOS checks of `encode` see every row anyway
EXAMPLES_PER_BATCH = 512


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Count rows: `num_rows == num_trained + num_too_long + num_unusable`, always.

    `num_tokens` and `num_loss_tokens` count one pass over the trained rows. A row is unusable if it
    raised UnusableRow; `unusable` says what is wrong with the first of them.
    """

    num_rows: int = 0
    num_trained: int = 0
    num_too_long: int = 0
    num_unusable: int = 0
    unusable: str = ""
    num_tokens: int = 0
    num_loss_tokens: int = 0

    def __add__(self, other: "RowCounts") -> "RowCounts":
        mine, theirs = asdict(self), asdict(other)
        added = {n: mine[n] + theirs[n] for n in mine if n != "unusable"}
        return RowCounts(**added, unusable=self.unusable or other.unusable)

    def check(self) -> "RowCounts":
        """Check that no row got lost, and return itself. Raises AssertionError if one did."""
        left_out = self.num_too_long + self.num_unusable
        assert self.num_rows == self.num_trained + left_out, self
        return self

    def fault(self, max_length: int | None) -> str:
        """Say in one line why these rows cannot be trained on; "" where they can.

        When most rows are unusable, the template or the tokenizer is wrong rather than the rows.
        """
        if 2 * self.num_unusable > self.num_rows:
            which = f"{self.num_unusable} of {self.num_rows} rows are unusable"
            return f"{which}; the first: {self.unusable}"
        if not self.num_trained and self.num_unusable:
            others = f"the other {self.num_too_long} are over {max_length} tokens"
            return f"{self.num_unusable} rows are unusable ({self.unusable}), {others}"
        if not self.num_trained:
            return f"all {self.num_rows} rows are over {max_length} tokens"
        return ""


def write_share(
    method: Method,
    tokenizer: Tokenizer,
    rows: Location,
    folder: Path,
    max_length: int | None,
    rank: int,
    world_size: int,
) -> RowCounts:
    """Encode this rank's rows; rows of more than `max_length` tokens are left out and counted.

    So are rows that this tokenizer or template cannot take as they are; the log says which.
    """
    share, counts_file = _files(folder, rank)
    # The counts are written last: where they are, the share is whole.
    if counts_file.is_file():
        return RowCounts(**json.loads(counts_file.read_text()))
    check_prompt_parity(
        tokenizer, list(islice(read_rows(method.columns, rows, rank, world_size), NUM_PARITY_ROWS))
    )
    folder.mkdir(parents=True, exist_ok=True)
    counts = RowCounts()
    partial = share.with_suffix(".partial")
    examples = _encoded(method, tokenizer, read_rows(method.columns, rows, rank, world_size))
    schema = pa.schema([(name, pa.list_(pa.int32())) for name in method.tokens])
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        while batch := list(islice(examples, EXAMPLES_PER_BATCH)):
            whole = [example for example in batch if isinstance(example, Example)]
            kept = [e for e in whole if max_length is None or e.length <= max_length]
            counts += _count(batch, whole, kept)
            writer.write_batch(pa.RecordBatch.from_pylist([e.columns for e in kept], schema))
    partial.replace(share)
    temporary = counts_file.with_suffix(".partial")
    temporary.write_text(json.dumps(asdict(counts.check())))
    temporary.replace(counts_file)
    return counts


def load_shares(folder: Path, world_size: int) -> Any:
    """Load all shares as one memory-mapped `datasets.Dataset`, in rank order."""
    from datasets import Dataset, concatenate_datasets

    return concatenate_datasets([Dataset.from_file(str(s)) for s in _shares(folder, world_size)])


def _shares(folder: Path, world_size: int) -> Iterator[Path]:
    for rank in range(world_size):
        share, counts_file = _files(folder, rank)
        if RowCounts(**json.loads(counts_file.read_text())).num_trained:
            yield share


def _files(folder: Path, rank: int) -> tuple[Path, Path]:
    return folder / f"rank-{rank}.arrow", folder / f"rank-{rank}.json"


def _encoded(
    method: Method, tokenizer: Tokenizer, rows: Iterable[Row]
) -> Iterator[Example | UnusableRow]:
    for row in rows:
        try:
            yield method.encode(tokenizer, row)
        except UnusableRow as error:
            print(f"left out: {error}", flush=True)
            yield error


def _count(
    batch: Sequence[Example | UnusableRow], whole: list[Example], kept: list[Example]
) -> RowCounts:
    return RowCounts(
        num_rows=len(batch),
        num_trained=len(kept),
        num_too_long=len(whole) - len(kept),
        num_unusable=len(batch) - len(whole),
        unusable=next((str(e) for e in batch if isinstance(e, UnusableRow)), ""),
        num_tokens=sum(
            len(ids) for e in kept for name, ids in e.columns.items() if name != "labels"
        ),
        num_loss_tokens=sum(e.num_loss_tokens for e in kept),
    )
