"""A run of some stage: its folder, its ledger, and what the steps of both stages share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from omegaconf import OmegaConf

from avr.config.errors import ConfigError
from avr.config.roles import LimitsConfig, RoleConfig
from avr.config.rows import PairsConfig, TreeConfig
from avr.config.run import RunConfig
from avr.config.training import TrainingConfig
from avr.core.prompts import Context, Templates
from avr.data import tables
from avr.data.prompt_sets import Ingested
from avr.dataflow.health import HealthError
from avr.engines.settings import text_settings
from avr.engines.weights import weights_id
from avr.hosting.cluster import connect, place
from avr.hosting.host import Hosted
from avr.plan.memory import check_memory
from avr.plan.resources import StepPlan
from avr.run.budget import Meter
from avr.run.folder import check_ours, own_folders
from avr.run.ledger import Ledger
from avr.run.lock import lock_folder
from avr.storage import (
    Location,
    check_writable,
    is_remote,
    location,
    reached,
    scratch,
    sweep,
    write_text,
)
from avr.terminal import CONSOLE, indented
from avr.training.launch import train

C = TypeVar("C", bound=RunConfig)


@dataclass(frozen=True)
class Run(Generic[C]):
    """What a step works with. Data travels between steps only through files in `folder`."""

    config: C
    folder: Location
    ledger: Ledger
    plan: Mapping[str, StepPlan]
    meter: Meter

    @property
    def templates(self) -> Templates:
        """The one set of templates."""
        return Templates(**asdict(self.config.templates))

    def model(self, step: str) -> str:
        """The model folder that a training step leaves."""
        return str(self.folder / step)

    @contextmanager
    def placed(self, step: str) -> Iterator[None]:
        """Inside, the cluster has room for the step, and its device-hours are counted."""
        self.meter.check()  # before nodes are asked for
        place(self.plan[step], self.config.placement_timeout_s, indented)
        self.meter.start(self.plan[step])
        try:
            yield
        finally:
            self.meter.stop()

    def hosted(
        self, name: str, role: str, settings: RoleConfig, step: str, limits: LimitsConfig
    ) -> Hosted:
        """The engine of one pool of a step."""
        return Hosted(
            name=name,
            role=role,
            config=settings,
            seed=self.config.seed,
            folder=self.folder / step,
            max_deaths=limits.max_engine_deaths,
            parity=limits.parity_tolerance if role == "reward_model" else None,
            start_timeout_s=limits.start_timeout_s,
        )

    def check_templates(self, grown: str) -> None:
        """Rows must ask in the words the trees were grown with."""
        if self.ledger.inputs(grown)["templates"] != asdict(self.config.templates):
            raise ConfigError(
                f"templates differ from those that the trees of {grown} were grown with"
            )

    def train(self, step: str, training: TrainingConfig, model: str, rows_of: str) -> None:
        """Train `model` on the rows of a step that is done; `step` names the kind of training."""
        rows = self.folder / rows_of / "rows.parquet"
        inputs = {
            "after": self.ledger.inputs_id(rows_of),
            "model": weights_id(model),
            "trl": training.trl,
            "deepspeed": training.deepspeed,
            "num_workers": training.num_workers,
            "save_dtype": training.save_dtype,
            "simpo_margin": training.simpo_margin,
        }

        def work() -> dict[str, Any]:
            if not any(True for _ in tables.read_rows(rows, ["id"])):
                raise RuntimeError(f"{rows} holds no rows to train on: see the funnel of {rows_of}")
            with self.placed(step):
                return asdict(train(step, training, model, rows, self.folder / step, say=indented))

        self.ledger.step(step, inputs, work)


def run_steps(
    kind: Callable[..., Run[C]],
    config: C,
    plan: Sequence[StepPlan],
    all_steps: Sequence[str],
    steps: Sequence[str],
    summarise: Callable[[C, Location, Ledger], Any],
) -> None:
    """Do those of `steps` that `config.steps` asks for and that are not done, then summarise.

    Each step is a method of `kind` with its name. Raises ConfigError where an engine or a rank
    cannot fit into its GPU, LedgerError while another job holds the folder, and HealthError, after
    a summary, of a growth that is not worth going on with.
    """
    asked = config.steps
    check_memory(plan, config.gpu_memory_gib)
    folder = location(config.run_dir).resolve()
    logs = scratch() if is_remote(folder) else folder
    ledger = Ledger(
        folder / "ledger",
        lambda line: CONSOLE.print(f"[bold]{line}[/bold]"),
        lambda: connect(config.ray, plan, logs / "logs" / "driver.log"),
    )
    with reached("run_dir", folder):
        ledger.check_resume(config.resume)
        check_ours(folder, all_steps)
    check_writable(folder, "run_dir")
    with lock_folder(folder, indented):
        if not is_remote(folder):
            sweep(folder, own_folders(all_steps))
        meter = Meter(folder / "device_hours.json", config.budget)
        run = kind(config, folder, ledger, {step.step: step for step in plan}, meter)
        try:
            for step in steps:
                if step in asked:
                    getattr(run, step)()
        except HealthError:
            summarise(config, folder, ledger)  # which says so, for programs
            raise
        if set(asked) >= set(all_steps):  # a run of some steps says nothing about the others
            _write_config(config, folder / "config.yaml")
        summarise(config, folder, ledger)


def model_settings(role: RoleConfig) -> dict[str, Any]:
    """What of a role decides the texts it gives; how many replicas serve it does not."""
    return {
        "weights": weights_id(role.model),
        "sampling": role.sampling,
        "engine": text_settings(role.engine),
    }


def tree_settings(tree: TreeConfig) -> dict[str, Any]:
    """What of the levels' settings decides the texts."""
    settings = asdict(tree)
    del settings["context"]
    return settings | context_settings(tree.context)


def context_settings(context: Context) -> dict[str, str]:
    """What levels see of those before, named where it is not the default.

    So runs of before there was a choice continue.
    """
    return {} if context == "answer" else {"context": context}


def least_margin(rules: PairsConfig) -> dict[str, float]:
    """What a step of pairs depends on besides its rules; nothing where any difference will do."""
    return {"min_margin": rules.min_margin} if rules.min_margin else {}


def say_rejected(ingested: Ingested, rejected: Location) -> None:
    """Which input rows cannot be used: the first three, and where all are."""
    if not ingested.num_quarantined:
        return
    indented(f"{ingested.num_quarantined} of {ingested.num_rows} input rows cannot be used:")
    for row in islice(tables.read_rows(rejected), 3):
        indented(f"  {row['source']}: {row['reason']}")
    indented(f"  all of them: {rejected}")


def _write_config(config: RunConfig, file: Location) -> None:
    """The configuration in full, once every step has accepted it; environments may hold secrets."""
    shown = OmegaConf.structured(config)
    _hide(config, shown)
    write_text(file, OmegaConf.to_yaml(shown))


def _hide(config: Any, shown: Any) -> None:
    """The environments of roles, at any depth."""
    for each in fields(config):
        value = getattr(config, each.name)
        if isinstance(value, RoleConfig):
            role = shown[each.name]
            role.env = dict.fromkeys(role.env, "(not shown)")
        elif is_dataclass(value):
            _hide(value, shown[each.name])
