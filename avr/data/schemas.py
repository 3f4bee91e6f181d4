"""Derive the Arrow schemas of the data between steps from dataclasses, and make rows of them."""

from dataclasses import asdict, is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa

from avr.core.outputs import OutputSet
from avr.core.tree import Prompt, RefinementTree, prompt_from_dict
from avr.rows.row import PreferencePair, RsftRow

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def schema_of(kind: type) -> pa.Schema:
    """Derive the schema of the rows that `asdict` makes of a dataclass's values."""
    return pa.schema([(name, _arrow(hint)) for name, hint in get_type_hints(kind).items()])


def _arrow(hint: Any) -> pa.DataType:
    """Return the Arrow type of a field: plain data, a dataclass, `X | None` or `tuple[X, ...]`."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    if isinstance(hint, type) and is_dataclass(hint):
        return pa.struct(list(schema_of(hint)))
    (inner,) = (part for part in get_args(hint) if part not in (NoneType, ...))
    return pa.list_(_arrow(inner)) if get_origin(hint) is tuple else _arrow(inner)


PROMPTS = schema_of(Prompt).append(pa.field("question", pa.string()))
TREES = schema_of(RefinementTree)
OUTPUTS = schema_of(OutputSet)
RSFT_ROWS = schema_of(RsftRow)
PAIRS = schema_of(PreferencePair)
prompt_row = rsft_row = pair_row = asdict


def prompt_of(row: dict[str, Any]) -> Prompt:
    """Convert a row of `PROMPTS` back to its prompt."""
    # The question is compared with those of other steps, and is no part of what is asked.
    return prompt_from_dict({name: row[name] for name in row if name != "question"})
