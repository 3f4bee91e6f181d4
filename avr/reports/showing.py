"""Show rows of a run's Parquet files as text for people: trees, training rows, sampled outputs."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import indent
from typing import Any

Row = Mapping[str, Any]


def shown(row: Row) -> str:
    """Show a row as text, by the columns that it has; an unknown kind is shown name by name."""
    if {"levels", "prompt", "response"} <= row.keys():
        return "\n".join(_tree(row))
    if {"outputs", "failures", "prompt"} <= row.keys():
        return "\n".join(_outputs(row))
    if {"chosen", "rejected", "kind", "margin", "node_ids"} <= row.keys():
        return "\n".join(_pair(row))
    if {"messages", "gain", "node_ids"} <= row.keys():
        head = f"row {row['id']}, gain {row['gain']:+.2f}, from {', '.join(row['node_ids'])}"
        return "\n".join([head, *_messages(row["messages"])])
    return "\n".join(f"{name}: {value}" for name, value in row.items())


def is_about(row: Row, id_: str) -> bool:
    """Tell whether a row, or a node or prompt in it or that it comes from, has this id."""
    return id_ in _ids(row) or id_ in (row.get("node_ids") or ())


def _ids(value: Any) -> Iterator[str]:
    """Yield all values under the name `id`, at any depth."""
    if isinstance(value, Mapping):
        yield from (own for name, own in value.items() if name == "id")
        value = [own for name, own in value.items() if name != "id"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            yield from _ids(one)


def _tree(tree: Row) -> Iterator[str]:
    yield f"tree {tree['id']}"
    yield from _messages(tree["prompt"]["query"])
    if tree["quarantined"]:
        yield f"quarantined: {tree['quarantined']}"
    if tree["response"] is not None:
        yield from _response("y0", tree["response"])
    for level in tree["levels"]:
        yield f"level of {level['of']}"
        for critique in level["critiques"]:
            yield f"  critique {critique['id']}, rating {critique['rating']}"
            yield indent(critique["text"], "    ")
            for refinement in critique["refinements"]:
                yield from (indent(line, "    ") for line in _response("refinement", refinement))
        if level["num_rejected"]:
            yield f"  {level['num_rejected']} malformed, such as: {level['rejected_example']!r}"
        if level.get("num_unscored"):
            yield f"  {level['num_unscored']} without a reward, such as: {level['unscored_reason']}"


def _response(name: str, response: Row) -> Iterator[str]:
    reward = response["reward"]
    yield f"{name} {response['id']}, reward {'none' if reward is None else f'{reward:.2f}'}"
    yield indent(response["text"], "  ")


def _outputs(found: Row) -> Iterator[str]:
    yield f"outputs {found['id']}"
    yield from _messages(found["prompt"]["query"])
    if found["quarantined"]:
        yield f"quarantined: {found['quarantined']}"
    for name in ("outputs", "failures"):
        for output in found[name]:
            yield from _response(name.removesuffix("s"), output)


def _pair(pair: Row) -> Iterator[str]:
    yield f"pair {pair['id']}, {pair['kind']}, margin {pair['margin']:.2f}"
    yield f"from {', '.join(pair['node_ids'])}"
    yield from _messages(pair["prompt"])
    for name in ("chosen", "rejected"):
        yield f"{name}:"
        yield from (indent(line, "  ") for line in _messages(pair[name]))


def _messages(messages: Sequence[Row]) -> Iterator[str]:
    for message in messages:
        yield f"{message['role']}:"
        yield indent(message["content"], "  ")
