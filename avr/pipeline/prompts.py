"""Prompt sets in: JSONL, JSON, Parquet or a Hugging Face data set, checked row by row.

A row that cannot be used goes to the quarantine with file, line, field and reason; every row of
the input is then either a prompt or a quarantined row.
"""

import codecs
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from avr.config import ConfigError, PromptsConfig
from avr.core.messages import Conversation, content_id, from_dicts, kind_of, user
from avr.core.tree import Prompt
from avr.pipeline.ids import Ids
from avr.pipeline.tables import PROMPTS, ids_of, prompt_row, read_rows, write_rows
from avr.storage import Location, files_at

# The steps that make of prompts what models are trained on.
PROMPT_STEPS = ("grow_rsft", "grow_dpo", "search", "sample")
QUARANTINED = pa.schema([("source", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class Ingested:
    """Rows in = prompts + quarantined."""

    num_rows: int
    num_prompts: int
    num_quarantined: int


@dataclass(frozen=True)
class InputRow:
    """A row as it was read, and the prompt it holds, or None and the `reason` why it holds none."""

    source: str
    fields: Any
    prompt: Prompt | None
    reason: str = ""


def input_rows(config: PromptsConfig, needs_answer: bool = False) -> Iterator[InputRow]:
    """Every row of the window, usable or not, in the order of the files."""
    for source, row in _rows(config):
        try:
            yield InputRow(source, row, _prompt(row, source, config, needs_answer))
        except ValueError as error:
            yield InputRow(source, row, None, str(error))


def ingest(
    config: PromptsConfig,
    prompts: Location,
    quarantine: Location,
    needs_answer: bool = False,
    taken: Mapping[str, Ids] = MappingProxyType({}),
) -> Ingested:
    """Write the usable rows to `prompts` and the others to `quarantine` (Parquet files).

    `taken` has the ids of prompts that are used elsewhere, by the step that uses them: training and
    held-out prompts must not overlap.
    """
    bad: list[dict[str, str]] = []
    num_rows = 0

    def usable() -> Iterator[dict[str, Any]]:
        nonlocal num_rows
        for row in input_rows(config, needs_answer):
            num_rows += 1
            reason = row.reason
            if row.prompt is not None:
                steps = (step for step, ids in taken.items() if row.prompt.id in ids)
                reason = next((f"the same prompt as one in {step}" for step in steps), "")
            if reason or row.prompt is None:
                bad.append({"source": row.source, "reason": reason})
                continue
            yield prompt_row(row.prompt)

    write_rows(prompts, usable(), PROMPTS)
    num_prompts = _drop_repeated(prompts, bad)
    write_rows(quarantine, bad, QUARANTINED)
    if num_prompts == 0:
        first = f"; the first: {bad[0]['source']}: {bad[0]['reason']}" if bad else ""
        raise ConfigError(f"{config.path}: none of {num_rows} rows is a usable prompt{first}")
    return Ingested(num_rows, num_prompts, len(bad))


def _drop_repeated(prompts: Location, bad: list[dict[str, str]]) -> int:
    """Each prompt once, the others to `bad`; returns how many are left.

    After they are written, and only where there are any: a million prompts need not be remembered.
    """
    ids = ids_of(prompts)
    doubles = ids.doubles
    if not doubles:
        return ids.num_rows
    first: dict[str, str] = {}

    def once() -> Iterator[dict[str, Any]]:
        for row in read_rows(prompts):
            if row["id"] in first:
                reason = f"the same prompt as {first[row['id']]}"
                bad.append({"source": row["source"], "reason": reason})
                continue
            if row["id"] in doubles:
                first[row["id"]] = row["source"]
            yield row

    return write_rows(prompts, once(), PROMPTS)


def count_rows(config: PromptsConfig) -> int | None:
    """How many rows `ingest` would read, usable or not; of a hub data set, its `limit` or None."""
    if _on_hub(config):
        return config.limit
    return sum(1 for _ in _rows(config))


def prompts_of(run_dir: Location, steps: Iterable[str]) -> dict[str, Ids]:
    """The ids of the prompts that each of the steps of a run uses."""
    return {step: ids_of(run_dir / step / "prompts.parquet") for step in steps}


def content_of(config: PromptsConfig) -> str:
    """An id of what the prompt set holds: of its files' bytes, of a hub data set's name."""
    if _on_hub(config):
        return content_id(config.path)
    files = files_at(config.path or "")
    if not files:
        return content_id(config.path)
    digest = hashlib.blake2b(digest_size=12)
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "blake2b").digest())
    return digest.hexdigest()


def _prompt(
    row: Mapping[str, Any] | ValueError, source: str, config: PromptsConfig, needs_answer: bool
) -> Prompt:
    if isinstance(row, ValueError):
        raise row
    query = _conversation(row, config.prompt_field)
    if query[-1].role != "user":
        raise ValueError(f"field {config.prompt_field!r} ends with the {query[-1].role}'s turn")
    answer = None
    if config.answer_field:
        try:
            answer = _answer(row, config.answer_field)
        except ValueError:
            if needs_answer:
                raise
    for field, texts in (
        (config.prompt_field, [m.content for m in query]),
        (config.answer_field, [answer or ""]),
    ):
        _check_storable(field, texts)
    return Prompt.of(query, answer, source)


def _check_storable(field: str | None, texts: Iterable[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"field {field!r} holds half a surrogate pair at character {error.start}"
            ) from error


def _conversation(row: Mapping[str, Any], field: str) -> Conversation:
    value = _field(row, field)
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"field {field!r} is empty")
        return (user(value),)
    if not isinstance(value, list) or not value:
        what = "an empty list" if value == [] else kind_of(value)
        raise ValueError(f"field {field!r} is {what}, neither text nor messages")
    try:
        conversation = from_dicts(value)
        _check_turns(conversation)
    except ValueError as error:
        raise ValueError(f"field {field!r}, {error}") from error
    return conversation


def _check_turns(conversation: Conversation) -> None:
    """Chat templates refuse other orders, or render them silently as something else."""
    expected = ("system", "user")
    for turn, message in enumerate(conversation):
        if message.role not in expected:
            raise ValueError(
                f"turn {turn} is the {message.role}'s, expected the {' or the '.join(expected)}'s"
            )
        if not message.content.strip():
            raise ValueError(f"turn {turn}: content is empty")
        expected = ("assistant",) if message.role == "user" else ("user",)


def _answer(row: Mapping[str, Any], field: str) -> str:
    value = _field(row, field)
    if isinstance(value, list) and value:  # a dialogue: the last assistant turn is the answer
        last = _conversation(row, field)[-1]
        value = last.content if last.role == "assistant" else None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"field {field!r} holds no answer text")
    return value


def _field(row: Mapping[str, Any], field: str) -> Any:
    if not isinstance(row, Mapping):
        raise ValueError(f"the row is {kind_of(row)}, not an object with fields")
    if field not in row:
        raise ValueError(f"no field {field!r}; the row has {', '.join(sorted(row)) or 'no fields'}")
    return row[field]


def _rows(config: PromptsConfig) -> Iterator[tuple[str, Any]]:
    """(source, row) of every row in the window; a broken line comes as its ValueError."""
    stop = None if config.limit is None else config.skip + config.limit
    return islice(_all_rows(config), config.skip, stop)


def _all_rows(config: PromptsConfig) -> Iterator[tuple[str, Any]]:
    if not config.path:
        raise ConfigError("a prompt set has no path")
    if _on_hub(config):
        yield from _hub_rows(config)
        return
    files = files_at(config.path)
    if not files:
        raise ConfigError(f"no prompts at {config.path}")
    readers = {".jsonl": _jsonl_rows, ".json": _json_rows, ".parquet": _parquet_rows}
    for file in files:
        reader = readers.get(file.suffix)
        if reader is None:
            raise ConfigError(f"{file}: prompts are read from {', '.join(readers)} and hf://")
        yield from reader(file)


def _on_hub(config: PromptsConfig) -> bool:
    return (config.path or "").startswith("hf://")


def _hub_rows(config: PromptsConfig) -> Iterator[tuple[str, Any]]:
    from datasets import load_dataset  # slow to import, and needed for this source alone

    name = str(config.path).removeprefix("hf://")
    rows = load_dataset(name, config.subset, split=config.split, streaming=True)
    for number, row in enumerate(rows):
        yield f"{config.path}:{config.split}:{number}", row


def _jsonl_rows(file: Location) -> Iterator[tuple[str, Any]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if text.strip():
                yield f"{file}:{number}", _parsed(text.strip())


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return ValueError(f"not UTF-8: {error.reason} at byte {error.start} of the line")
    except json.JSONDecodeError as error:
        return ValueError(f"not a JSON line: {error.msg} at character {error.pos} of the line")
    except RecursionError:
        return ValueError("not a JSON line: nested too deeply")


def _json_rows(file: Location) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file}: not JSON: {error}") from error
    if not isinstance(rows, list):
        raise ConfigError(f"{file}: a JSON file of prompts is a list of records")
    for number, row in enumerate(rows):
        yield f"{file}[{number}]", row


def _parquet_rows(file: Location) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(read_rows(file)):
        yield f"{file}:row {number}", row
