"""Read and write files of answers as benchmarks take them: one record a prompt, in input order."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from avr.core.messages import Conversation, content_id
from avr.data.prompt_sets import InputRow
from avr.storage import Location, written


def write_records(file: Location, records: Iterable[Mapping[str, Any]]) -> int:
    """Write a JSON list for `.json`, else a record a line; return how many records there were.

    The file is written whole or not at all.
    """
    number = 0
    with written(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
        listed = file.suffix == ".json"
        stream.write("[" if listed else "")
        for number, record in enumerate(records, start=1):
            before = (",\n" if number > 1 else "\n") if listed else ""
            stream.write(before + json.dumps(record, default=str))
            stream.write("" if listed else "\n")
        stream.write("\n]\n" if listed else "")
    return number


def kind_of_reason(reason: str) -> str:
    """Return the kind of a reason: reasons that differ in their numbers alone are of one kind."""
    return re.sub(r"\d+", "N", reason)


def fields_of(row: InputRow) -> dict[str, Any]:
    """Return the fields of the input's row, which go on to the output; a broken row has none."""
    return dict(row.fields) if isinstance(row.fields, Mapping) else {}


def alpaca_record(row: InputRow, prompt_field: str, output: str, generator: str) -> dict[str, Any]:
    """Make a record of AlpacaEval's.

    There an empty output loses, and a record must not be missing.
    """
    fields = fields_of(row)
    return {
        "dataset": fields.get("dataset", ""),
        "instruction": fields.get(prompt_field, ""),
        "output": output,
        "generator": generator,
    }


def arena_record(row: InputRow, output: str, generator: str) -> dict[str, Any]:
    """Make a record for Arena-Hard's judges, with the names of its first and of its later releases.

    Its own reports want counts by their tokenizer as well (`token_len`), which are not in here.
    """
    question = question_of(row)
    query: Conversation = row.prompt.query if row.prompt else ()
    asked = [{"role": message.role, "content": message.content} for message in query]
    answer = content_id("arena answer", question, generator, output)
    return {
        "question_id": question,
        "uid": question,
        "answer_id": answer,
        "ans_id": answer,
        "model_id": generator,
        "model": generator,
        "choices": [{"index": 0, "turns": [{"content": output}]}],
        "messages": [*asked, {"role": "assistant", "content": {"answer": output}}],
    }


def question_of(row: InputRow) -> str:
    """Return Arena-Hard's name of a question; for a row without one, the place of the row."""
    fields = fields_of(row)
    return str(fields.get("uid") or fields.get("question_id") or row.source)


def answer_in(record: Mapping[str, Any]) -> str | None:
    """Return the answer in a record of Arena-Hard's, of any release; None for other records."""
    try:
        return str(record["choices"][0]["turns"][0]["content"])
    except (KeyError, IndexError, TypeError):
        pass
    try:
        return str(record["messages"][-1]["content"]["answer"])
    except (KeyError, IndexError, TypeError):
        return None
