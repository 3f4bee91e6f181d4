"""Find the prompts that steps of a run use, and those that its models were trained on."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow.parquet as pq

from avr.core.messages import content_id
from avr.data.ids import Ids
from avr.data.tables import read_rows
from avr.storage import Location, for_arrow, path_of


def training_prompts(run_dir: Location) -> dict[str, Ids]:
    """Return the ids of the prompts of a run's steps that other steps build on, as trainings do.

    Prompts of an evaluation, which nothing builds on, were only asked.
    """
    return prompts_of(run_dir, built_on(run_dir))


def built_on(run_dir: Location) -> dict[str, dict[str, Any]]:
    """Return the inputs of each step that has prompts and that another step of the run builds on.

    Ledgers tell: what a step's result was decided by names the steps before it by their inputs.
    """
    files: list[Location] = sorted((run_dir / "ledger").glob("*.json"), key=str)
    inputs = {file.stem: json.loads(file.read_text())["inputs"] for file in files}
    used = set(_named_in(list(inputs.values())))
    return {
        step: decided
        for step, decided in inputs.items()
        if content_id(decided) in used and (run_dir / step / "prompts.parquet").exists()
    }


def _named_in(decided: Any) -> Iterator[str]:
    if isinstance(decided, list):
        for each in decided:
            yield from _named_in(each)
    elif isinstance(decided, dict):
        if isinstance(decided.get("after"), str):
            yield decided["after"]
        yield from _named_in(list(decided.values()))


def prompts_of(run_dir: Location, steps: Iterable[str]) -> dict[str, Ids]:
    """Return the ids of the prompts that each of the steps of a run uses, and of their questions.

    A prompt has its question's id where the step's `question_field` is set.
    """
    return {step: _asked(run_dir / step / "prompts.parquet") for step in steps}


def _asked(file: Location) -> Ids:
    # Prompts from before there were questions lack the column.
    there = pq.read_schema(path_of(file), **for_arrow(file)).names
    columns = [name for name in ("id", "question") if name in there]
    rows = read_rows(file, columns)
    return Ids(id_ for row in rows for name in columns if (id_ := row[name]))
