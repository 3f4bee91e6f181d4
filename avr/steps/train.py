"""Train a model on the rows of an earlier step."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from avr.config.fields import WEIGHTS, speed_only
from avr.config.training import TrainingConfig
from avr.data.tables import read_rows
from avr.engines.folders import check_model
from avr.engines.weights import weights_id
from avr.plan.models import Use, training
from avr.plan.resources import StepPlan, workers
from avr.run.step import Report, Run, Step
from avr.terminal import indented
from avr.training.methods.method import Method


@dataclass(frozen=True)
class Train(Step):
    """Train by `method`, from a model or from one that an earlier training made.

    The step's name is the section of the configuration that holds `config`; `at` is the setting
    that names the model at the beginning.
    """

    method: Method
    config: TrainingConfig
    base: "str | Train" = field(metadata=WEIGHTS)
    rows: Step
    at: str = speed_only(default="policy.model")

    def check(self) -> None:
        """Raise ConfigError for settings that TRL does not have, or a model that is not there."""
        # Imported in here, as it imports TRL, which takes seconds.
        from avr.training.settings import check_training

        if isinstance(self.base, str):
            check_model(self.at, self.base)
        check_training(self.name, self.method, self.config)

    def origin(self) -> str:
        """Name the model that this training, or those before it, started from."""
        return self.base if isinstance(self.base, str) else self.base.origin()

    def uses(self) -> Iterable[Use]:
        """Name the base model, whose shape no training changes."""
        return [training(self.name, self.at, self.origin(), self.config)]

    def needs(self) -> StepPlan:
        """Plan one group of workers."""
        # Nothing works beside the workers, so no CPUs are kept in reserve.
        trained = isinstance(self.base, Train)
        return StepPlan(
            self.name, (workers(self.origin(), self.method, self.config, trained),), True, 0.0
        )

    def source(self) -> Step | None:
        """Return the step whose prompts are behind the rows."""
        return self.rows.source()

    def model(self, run: Run) -> str:
        """Return the folder of the trained model. Raises LedgerError where it is not there yet."""
        run.ledger.result(self.name)
        return str(run.of(self))

    def decides(self, run: Run) -> Any:
        """Return an id of the weights that the training has left: nothing else of it counts."""
        return {"weights": weights_id(self.model(run))}

    def work(self, run: Run) -> dict[str, Any]:
        """Train, from the last checkpoint where there is one."""
        from avr.training.launch import train

        rows = run.of(self.rows) / "rows.parquet"
        # Before the cluster is asked for room.
        if not any(True for _ in read_rows(rows, ["id"])):
            raise RuntimeError(
                f"{rows} holds no rows to train on; the funnel in "
                f"{run.folder / 'ledger' / self.rows.name}.json counts what each rule removed"
            )
        base, to = model_of(self.base, run), run.of(self)
        with run.placed(self):
            done = train(self.name, self.method, self.config, base, rows, to, say=indented)
        return asdict(done)

    def report(self, run: Run) -> Report:
        """Report the training, and the model that it started from."""
        record = json.loads((run.of(self) / "training.json").read_text())
        from_model = {"trained_from": record["trained_from"]}
        return Report({**run.ledger.result(self.name), **from_model})


def model_of(model: "str | Train", run: Run) -> str:
    """Return the folder or name of a model that is there, or was made by an earlier step."""
    return model if isinstance(model, str) else model.model(run)
