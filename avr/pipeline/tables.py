"""What lies in Parquet between the steps: schemas, atomic writes, streaming reads."""

from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from avr.core.messages import content_id, from_dicts, to_dicts
from avr.core.pairs import PreferencePair
from avr.core.selection import RsftRow
from avr.core.tree import Prompt, RefinementTree, tree_from_dict

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

PROMPTS = pa.schema(
    [("id", pa.string()), ("query", _MESSAGES), ("answer", pa.string()), ("source", pa.string())]
)

_RESPONSE = pa.struct(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("num_tokens", pa.int64()),
        ("reward", pa.float64()),
    ]
)
_CRITIQUE = pa.struct(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("rating", pa.int64()),
        ("finish_reason", pa.string()),
        ("num_tokens", pa.int64()),
        ("refinements", pa.list_(_RESPONSE)),
    ]
)
_LEVEL = pa.struct(
    [
        ("of", pa.string()),
        ("critiques", pa.list_(_CRITIQUE)),
        ("num_rejected", pa.int64()),
        ("num_dropped", pa.int64()),
        ("rejected_example", pa.string()),
    ]
)
TREES = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.struct(list(PROMPTS))),
        ("response", _RESPONSE),
        ("levels", pa.list_(_LEVEL)),
        ("quarantined", pa.string()),
    ]
)

RSFT_ROWS = pa.schema(
    [
        ("id", pa.string()),
        ("messages", _MESSAGES),
        ("node_ids", pa.list_(pa.string())),
        ("gain", pa.float64()),
    ]
)
PAIRS = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("prompt", _MESSAGES),
        ("chosen", _MESSAGES),
        ("rejected", _MESSAGES),
        ("margin", pa.float64()),
        ("node_ids", pa.list_(pa.string())),
    ]
)


def write_part(folder: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> Path:
    """Write rows as one Parquet file, whole or not at all, named after the ids it holds.

    Writing the same rows again replaces the file, so a retried task doubles nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = content_id("part", sorted(row["id"] for row in rows))
    temporary = folder / f".{name}.tmp"
    pq.write_table(pa.Table.from_pylist(rows, schema), temporary)
    return temporary.rename(folder / f"{name}.parquet")


def write_rows(file: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    """Stream rows into one Parquet file, whole or not at all; returns how many there were."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    stream, num_rows = iter(rows), 0
    with pq.ParquetWriter(temporary, schema) as writer:
        while batch := list(islice(stream, 1024)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
            num_rows += len(batch)
    temporary.rename(file)
    return num_rows


def read_rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file or folder, batch by batch; a folder that is not there has none."""
    if not path.exists():
        return
    for batch in pads.dataset(path, format="parquet").to_batches(columns, batch_size=1024):
        yield from batch.to_pylist()


def read_ids(path: Path) -> set[str]:
    """The `id` column of a Parquet file or folder."""
    return {row["id"] for row in read_rows(path, ["id"])}


def read_trees(folder: Path) -> Iterator[RefinementTree]:
    """Trees in the order of their ids, each once.

    The order is the same however often growth was interrupted, and so are all that is selected.
    Raises ValueError where an id occurs twice: the folder then holds what two runs wrote.
    """
    if not folder.exists():
        return
    table = pads.dataset(folder, format="parquet")
    ids = sorted((row["id"], n) for n, row in enumerate(read_rows(folder, ["id"])))
    for (one, _), (other, _) in pairwise(ids):
        if one == other:
            raise ValueError(f"{folder}: tree {one} is there twice")
    for chunk_start in range(0, len(ids), 1024):
        chunk = [n for _, n in ids[chunk_start : chunk_start + 1024]]
        for row in table.take(chunk).to_pylist():
            yield tree_from_dict(row)


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a row of `PROMPTS`."""
    return {
        "id": prompt.id,
        "query": to_dicts(prompt.query),
        "answer": prompt.answer,
        "source": prompt.source,
    }


def prompt_of(row: dict[str, Any]) -> Prompt:
    """The inverse of `prompt_row`."""
    return Prompt(row["id"], from_dicts(row["query"]), row["answer"], row["source"])


def rsft_row(row: RsftRow) -> dict[str, Any]:
    """An RSFT row as a row of `RSFT_ROWS`."""
    return {
        "id": row.id,
        "messages": to_dicts(row.messages),
        "node_ids": list(row.node_ids),
        "gain": row.gain,
    }


def pair_row(pair: PreferencePair) -> dict[str, Any]:
    """A preference pair as a row of `PAIRS`."""
    return {
        "id": pair.id,
        "kind": pair.kind,
        "prompt": to_dicts(pair.prompt),
        "chosen": to_dicts(pair.chosen),
        "rejected": to_dicts(pair.rejected),
        "margin": pair.margin,
        "node_ids": list(pair.node_ids),
    }
