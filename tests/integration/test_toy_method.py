"""A training method and a recipe of somebody else's: defined here, run by ours, nothing edited."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import training_models as tm

from avr.config.run import RunConfig
from avr.data.schemas import RSFT_ROWS
from avr.data.tables import write_rows
from avr.run.recipe import Recipe
from avr.run.runner import run
from avr.run.step import Step
from avr.steps.train import Train
from avr.training.methods.rsft import Rsft
from avr.training.rows import Example

pytestmark = pytest.mark.integration
NUM_ROWS = 16


@dataclass(frozen=True)
class LastTokens(Rsft):
    """Learn only the end of each conversation: its last `number` tokens."""

    name: str = "last_tokens"
    number: int = 2
    columns: ClassVar[tuple[str, ...]] = ("id", "messages")

    def encode(self, tokenizer, row):
        whole = super().encode(tokenizer, row)
        labels = whole.columns["labels"]
        labels = [-100] * (len(labels) - self.number) + labels[-self.number :]
        columns = {"input_ids": whole.columns["input_ids"], "labels": labels}
        return Example(whole.id, columns, whole.length, self.number)


@dataclass(frozen=True)
class Made(Step):
    """Rows that are made up."""

    number: int

    def work(self, run):
        rows = [{**tm.rsft_row(index), "gain": 1.0} for index in range(self.number)]
        return {"num_rows": write_rows(run.of(self) / "rows.parquet", rows, RSFT_ROWS)}


def recipe(model, method, at):
    rows = Made("made", NUM_ROWS)
    config = tm.on_cpus({"max_steps": 3, "logging_steps": 1})
    first = Train("first", method, config, str(model), rows, at)
    return Recipe("Toy", (rows, first, Train("second", Rsft(), config, first, rows)))


def test_a_method_of_ones_own_trains_in_a_recipe_of_ones_own(ray_cluster, tmp_path):
    model, folder = tmp_path / "model", tmp_path / "run"
    tm.write_model(model)
    run(RunConfig(run_dir=str(folder)), recipe(model, LastTokens(), "model"))
    first, second = (
        json.loads((folder / name / "training.json").read_text()) for name in ("first", "second")
    )
    assert first["result"]["method"] == "last_tokens" and second["result"]["method"] == "rsft"
    assert first["result"]["num_loss_tokens"] == 2 * NUM_ROWS
    assert second["result"]["num_loss_tokens"] > first["result"]["num_loss_tokens"]
    assert second["trained_from"] == str(folder / "first")
    assert first["result"]["num_trained"] == NUM_ROWS
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["seconds"]) == ["made", "first", "second"]
