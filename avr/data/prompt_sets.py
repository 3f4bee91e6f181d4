"""Take in prompt sets: JSONL, JSON, Parquet or a Hugging Face data set, checked row by row.

A row that cannot be used goes to the quarantine with file, line, field and reason; every row of the
input is then either a prompt or a quarantined row.
"""

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.core.messages import content_id
from avr.core.tree import Prompt
from avr.data.ids import Ids
from avr.data.prompt_files import check_suffixes, on_hub, rows_in
from avr.data.prompt_rows import fields_in, prompt_in, question_in
from avr.data.schemas import PROMPTS, prompt_row
from avr.data.tables import ids_of, read_rows, write_rows
from avr.storage import Location, files_at

QUARANTINED = pa.schema([("source", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class Ingested:
    """Hold the counts of a set that was taken in: rows in = prompts + quarantined."""

    num_rows: int
    num_prompts: int
    num_quarantined: int


@dataclass(frozen=True)
class InputRow:
    """Hold a row as it was read, and its prompt, or None and the `reason` why it holds none.

    `question` is an id of what it asks (`question_field`), or "".
    """

    source: str
    fields: Any
    prompt: Prompt | None
    reason: str = ""
    question: str = ""


def input_rows(config: PromptsConfig, needs_answer: bool = False) -> Iterator[InputRow]:
    """Read every row of the window, usable or not, in the order of the files."""
    for source, row in rows_in(config):
        try:
            prompt = prompt_in(row, source, config, needs_answer)
            yield InputRow(source, row, prompt, question=question_in(row, config))
        except ValueError as error:
            # A reason may quote half a surrogate pair (of a key, for example), which no file takes.
            reason = str(error).encode(errors="backslashreplace").decode()
            yield InputRow(source, row, None, reason)


def ingest(
    config: PromptsConfig,
    prompts: Location,
    quarantine: Location,
    needs_answer: bool = False,
    taken: Mapping[str, Ids] = MappingProxyType({}),
) -> Ingested:
    """Write the usable rows to `prompts` and the others to `quarantine` (Parquet files).

    `taken` maps steps to the ids of prompts that they use, and of their questions: training and
    held-out prompts must not overlap. Raises ConfigError where no row is usable.
    """
    bad: list[dict[str, str]] = []
    num_rows = 0

    def usable() -> Iterator[dict[str, Any]]:
        nonlocal num_rows
        for row in input_rows(config, needs_answer):
            num_rows += 1
            reason = row.reason
            if row.prompt is not None:
                reason = _taken_by(row.prompt, row.question, taken)
            if reason or row.prompt is None:
                bad.append({"source": row.source, "reason": reason})
                continue
            yield {**prompt_row(row.prompt), "question": row.question}

    write_rows(prompts, usable(), PROMPTS)
    num_prompts = _drop_repeated(prompts, bad)
    write_rows(quarantine, bad, QUARANTINED)
    if num_prompts == 0:
        first = f"; the first: {bad[0]['source']}: {bad[0]['reason']}" if bad else ""
        raise ConfigError(f"{config.path}: none of {num_rows} rows is a usable prompt{first}")
    return Ingested(num_rows, num_prompts, len(bad))


def _taken_by(prompt: Prompt, question: str, taken: Mapping[str, Ids]) -> str:
    """Say which step uses the prompt, or asks the same in another; "" where none does."""
    for step, ids in taken.items():
        if prompt.id in ids:
            return f"the same prompt as one in {step}"
        if question and question in ids:
            return f"the same question as one in {step}"
    return ""


def _drop_repeated(prompts: Location, bad: list[dict[str, str]]) -> int:
    """Keep each prompt once, move repeated ones to `bad`; return how many are left.

    This is done after they are written, and only where there are any: a million prompts need not be
    remembered.
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
    """Count the rows that `ingest` would read, usable or not.

    For a hub data set this is its `limit`, or None.
    """
    if on_hub(config):
        return config.limit
    return sum(1 for _ in rows_in(config))


# So many rows are looked at: a field that is misspelt is misspelt in all of them.
LOOK_AT = 200


def check_rows(config: PromptsConfig) -> None:
    """Raise ConfigError where the first rows of the set hold no prompts.

    It names what is wrong with the first row. In a hub data set these are the first rows of the
    split, without `skip`, which can be a long way; HubUnreachableError where nobody could look.
    """
    if on_hub(config):
        looked_at = replace(config, skip=0, limit=LOOK_AT)
    else:
        check_suffixes(files_at(config.path or ""))
        looked_at = replace(config, limit=min(LOOK_AT, config.limit or LOOK_AT))
    rows = list(input_rows(looked_at))
    if not rows:
        after = f" after the {config.skip} that `skip` leaves out" if config.skip else ""
        raise ConfigError(f"{config.path} has no rows{after}")
    _check_fields(rows, config)
    all_read = len(rows) < LOOK_AT
    if all(r.prompt is None and (all_read or not isinstance(r.fields, Mapping)) for r in rows):
        first = f"{rows[0].source}: {rows[0].reason}"
        which = "none of the" if all_read else "none of the first"
        raise ConfigError(f"{which} {len(rows)} rows is a usable prompt; the first: {first}")


def _check_fields(rows: Sequence[InputRow], config: PromptsConfig) -> None:
    """Raise ConfigError for a setting that names a field which none of the rows has."""
    known = {field for row in rows if isinstance(row.fields, Mapping) for field in row.fields}
    if not known:  # nor is any row an object: something else is wrong
        return
    for setting, fields in _fields_named(config).items():
        for field in fields:
            if field not in known:
                near = difflib.get_close_matches(field, map(str, known), n=1)
                there = f"the rows have {', '.join(sorted(map(str, known)))}"
                raise ConfigError(
                    f"{rows[0].source}: no field {field!r}, which {setting} names;"
                    f" {f'did you mean {near[0]!r}?' if near else there}"
                )


def _fields_named(config: PromptsConfig) -> dict[str, Sequence[str]]:
    """List the fields of a row that each setting names."""
    truth = ("reference_field", "tests_field", "setup_field")
    settings = ("prompt_field", "answer_field", *truth, "question_field")
    named = {each: [field] for each in settings if (field := getattr(config, each))}
    if config.prompt_format is None:
        return dict(named)
    del named["prompt_field"]
    try:
        return {"prompt_format": fields_in(config.prompt_format), **named}
    except ValueError as error:
        raise ConfigError(str(error)) from error


def content_of(config: PromptsConfig) -> str:
    """Return an id of a prompt set's content: of its files' bytes, or of a hub data set's name."""
    if on_hub(config):
        return content_id(config.path)
    files = files_at(config.path or "")
    if not files:
        return content_id(config.path)
    digest = hashlib.blake2b(digest_size=12)
    for file in files:
        with file.open("rb") as stream:
            # `Any`, because the stream's type says less than what file_digest asks for.
            whole: Any = stream
            digest.update(hashlib.file_digest(whole, "blake2b").digest())
    return digest.hexdigest()
