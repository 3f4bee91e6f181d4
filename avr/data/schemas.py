"""Define the Arrow schemas of the data between steps, and convert values to rows of them."""

from typing import Any

import pyarrow as pa

from avr.core.messages import from_dicts, to_dicts
from avr.core.tree import Prompt
from avr.rows.row import PreferencePair, RsftRow

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
        ("num_dropped_refinements", pa.int64()),
        ("rejected_example", pa.string()),
        ("num_rejected_tokens", pa.int64()),
        ("num_unscored", pa.int64()),
        ("unscored_reason", pa.string()),
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


_JUDGEMENT = pa.struct(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("rating", pa.int64()),
        ("finish_reason", pa.string()),
        ("num_tokens", pa.int64()),
        ("meta_rating", pa.int64()),
    ]
)


_OUTPUT = pa.struct(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("answer", pa.string()),
        ("num_turns", pa.int64()),
        ("finish_reason", pa.string()),
        ("num_tokens", pa.int64()),
        ("failure", pa.string()),
        ("reward", pa.float64()),
        ("judgements", pa.list_(_JUDGEMENT)),
    ]
)


OUTPUTS = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.struct(list(PROMPTS))),
        ("outputs", pa.list_(_OUTPUT)),
        ("failures", pa.list_(_OUTPUT)),
        ("num_missing", pa.int64()),
        ("reference", pa.float64()),
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


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """Convert a prompt to a row of `PROMPTS`."""
    return {
        "id": prompt.id,
        "query": to_dicts(prompt.query),
        "answer": prompt.answer,
        "source": prompt.source,
    }


def prompt_of(row: dict[str, Any]) -> Prompt:
    """Convert a row of `PROMPTS` back to its prompt."""
    return Prompt(row["id"], from_dicts(row["query"]), row["answer"], row["source"])


def rsft_row(row: RsftRow) -> dict[str, Any]:
    """Convert an RSFT row to a row of `RSFT_ROWS`."""
    return {
        "id": row.id,
        "messages": to_dicts(row.messages),
        "node_ids": list(row.node_ids),
        "gain": row.gain,
    }


def pair_row(pair: PreferencePair) -> dict[str, Any]:
    """Convert a preference pair to a row of `PAIRS`."""
    return {
        "id": pair.id,
        "kind": pair.kind,
        "prompt": to_dicts(pair.prompt),
        "chosen": to_dicts(pair.chosen),
        "rejected": to_dicts(pair.rejected),
        "margin": pair.margin,
        "node_ids": list(pair.node_ids),
    }
