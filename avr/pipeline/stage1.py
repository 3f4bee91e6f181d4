"""Stage I in seven steps, each recorded in the run directory's ledger."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from avr.config import STEPS, ConfigError, FirstAnswer, PromptsConfig, RoleConfig, Stage1Config
from avr.core.funnel import Funnel
from avr.core.growth import Shape, take_answer
from avr.core.messages import content_id
from avr.core.pairs import make_pairs
from avr.core.prompts import Templates
from avr.core.selection import select_rsft, switched_on
from avr.core.tree import plant
from avr.engines.weights import weights_id
from avr.pipeline import tables
from avr.pipeline.cluster import connect, wait_until_free
from avr.pipeline.dataflow import Seedling, grow
from avr.pipeline.evaluation import evaluate
from avr.pipeline.ledger import Ledger, lock_folder
from avr.pipeline.operators import Operator
from avr.pipeline.plan import StepPlan, plan_stage1, second_policy
from avr.pipeline.preflight import preflight
from avr.pipeline.progress import CONSOLE
from avr.pipeline.prompts import content_of, ingest, prompts_of
from avr.pipeline.summary import summarise
from avr.training.launch import train


def run(config: Stage1Config) -> None:
    """Do the steps asked for that are not done yet, then print and write the summary."""
    plan = plan_stage1(config)
    preflight(config)
    folder = Path(config.run_dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(folder)
    ledger = Ledger(folder / "ledger", lambda line: CONSOLE.print(f"[bold]{line}[/bold]"))
    stage = Stage1(config, folder, ledger, {step.step: step for step in plan})
    connect(config.ray, plan, folder / "logs" / "driver.log")
    for step in STEPS:
        if step in config.steps and not (step == "evaluate" and config.evaluation is None):
            getattr(stage, step)()
    if set(config.steps) >= set(STEPS):  # a run of some steps says nothing about the others
        _write_config(config, folder / "config.yaml")
    summarise(config, folder, ledger)
    lock.close()


def _write_config(config: Stage1Config, file: Path) -> None:
    """The configuration in full, once every step has accepted it; environments may hold secrets."""
    shown = OmegaConf.structured(config)
    for role in ("policy", "corrector", "reward_model"):
        if shown[role] is not None:
            shown[role].env = dict.fromkeys(shown[role].env, "(not shown)")
    file.write_text(OmegaConf.to_yaml(shown))


@dataclass(frozen=True)
class Stage1:
    """The steps. Data travels between them only through files in `folder`."""

    config: Stage1Config
    folder: Path
    ledger: Ledger
    plan: dict[str, StepPlan]

    @property
    def templates(self) -> Templates:
        """The one set of templates."""
        return Templates(**asdict(self.config.templates))

    def grow_rsft(self) -> None:
        """Trees of the seed policy, corrected by the corrector (or by itself)."""
        config = self.config
        sampled = config.growth.first_answer == FirstAnswer.sampled
        roles = {"policy": config.policy} if sampled or config.corrector is None else {}
        roles |= {"corrector": config.corrector} if config.corrector else {}
        self._grow("grow_rsft", config.prompts.rsft, roles, from_input=not sampled)

    def select(self) -> None:
        """RSFT rows: the best refinements that improve."""
        rules = self.config.selection
        switches = switched_on("rsft", rules.profile, rules.switches)
        self._check_templates("grow_rsft")
        inputs = {"after": self.ledger.inputs_id("grow_rsft"), "rules": sorted(switches)}
        self.ledger.step("select", inputs, lambda: self._select(switches))

    def rsft(self) -> None:
        """The policy trained on whole refinement conversations."""
        self._train("rsft", self.config.policy.model, "select")

    def grow_dpo(self) -> None:
        """Trees of the RSFT model, policy and corrector in one, on other prompts."""
        self.ledger.result("rsft")
        policy = replace(second_policy(self.config), model=self._model("rsft"))
        self._grow("grow_dpo", self.config.prompts.dpo, {"policy": policy}, from_input=False)

    def pair(self) -> None:
        """Preference pairs of three kinds."""
        rules = self.config.pairs
        switches = switched_on("pairs", rules.profile, rules.switches)
        self._check_templates("grow_dpo")
        inputs = {
            "after": self.ledger.inputs_id("grow_dpo"),
            "rules": sorted(switches),
            "kinds": rules.kinds,
        }
        self.ledger.step("pair", inputs, lambda: self._pair(switches))

    def dpo(self) -> None:
        """The RSFT model trained to prefer the better answers, critiques and refinements."""
        self._train("dpo", self._model("rsft"), "pair")

    def evaluate(self) -> None:
        """Held-out prompts answered and self-refined by the models, judged by reward and oracle."""
        config = self.config
        assert config.evaluation is not None
        models = {"seed": config.policy.model}
        models |= {step: self._model(step) for step in ("rsft", "dpo") if step in _done(self)}
        inputs = {
            "models": {name: weights_id(model) for name, model in models.items()},
            "evaluation": asdict(config.evaluation),
            "prompts": content_of(config.evaluation.prompts),
            "reward_model": _model_settings(config.reward_model),
            "templates": asdict(config.templates),
            "sampling": config.policy.sampling,
            "seed": config.seed,
        }
        shape = Shape(1, 1, config.tree.max_tries, follow="last")
        operators = [
            self._operator("answer", "policy", config.policy, shape, "evaluate"),
            self._operator("score", "reward_model", config.reward_model, shape, "evaluate"),
        ]
        self._wait("evaluate")
        self.ledger.step(
            "evaluate",
            inputs,
            lambda: evaluate(
                config.evaluation,
                models,
                operators,
                config.growth,
                self.folder / "evaluate",
                inputs,
            ),
        )

    def _check_templates(self, grown: str) -> None:
        """Rows must ask in the words the trees were grown with."""
        if self.ledger.inputs(grown)["templates"] != asdict(self.config.templates):
            raise ConfigError(
                f"templates differ from those that the trees of {grown} were grown with"
            )

    def _grow(
        self, step: str, prompts: PromptsConfig, roles: dict[str, RoleConfig], from_input: bool
    ) -> None:
        config = self.config
        inputs = {
            "prompts": {**asdict(prompts), "content": content_of(prompts)},
            "first_answer": "input" if from_input else "sampled",
            "templates": asdict(config.templates),
            "tree": asdict(config.tree),
            "reward_model": _model_settings(config.reward_model),
            "seed": config.seed,
            **{role: _model_settings(settings) for role, settings in roles.items()},
        }
        shape = Shape(**asdict(config.tree))
        steps = ["grow"] if len(roles) == 1 and "policy" in roles else []
        steps = steps or [{"policy": "respond", "corrector": "correct"}[role] for role in roles]
        operators = [
            self._operator(name, role, settings, shape, step)
            for name, (role, settings) in zip(steps, roles.items(), strict=True)
        ]
        operators.append(self._operator("score", "reward_model", config.reward_model, shape, step))
        self.ledger.step(
            step, inputs, lambda: self._grown(step, prompts, operators, from_input, inputs)
        )

    def _grown(
        self,
        step: str,
        prompts: PromptsConfig,
        operators: list[Operator],
        from_input: bool,
        inputs: dict[str, Any],
    ) -> dict[str, Any]:
        folder = self.folder / step
        ingested = ingest(
            prompts,
            folder / "prompts.parquet",
            folder / "rejected.parquet",
            from_input,
            taken=prompts_of(self.folder, ("grow_rsft",) if step == "grow_dpo" else ()),
        )
        if ingested.num_quarantined:
            CONSOLE.print(
                f"  {ingested.num_quarantined} of {ingested.num_rows} input rows cannot be used:"
                f" {folder / 'rejected.parquet'}"
            )
        # Where a prompt set lies does not change the trees that grow from it.
        recipe = content_id({k: v for k, v in inputs.items() if k != "prompts"})
        self._wait(step)
        grown = grow(
            _seedlings(folder / "prompts.parquet", recipe, from_input),
            operators,
            self.config.growth,
            folder,
        )
        return {"input": asdict(ingested), "growth": asdict(grown)}

    def _operator(
        self, name: str, role: str, settings: RoleConfig, shape: Shape, step: str
    ) -> Operator:
        growth = self.config.growth
        return Operator(
            step=name,
            role=role,
            config=settings,
            templates=self.templates,
            shape=shape,
            seed=self.config.seed,
            folder=self.folder / step,
            max_deaths=growth.max_engine_deaths,
            parity=growth.parity_tolerance if role == "reward_model" else None,
        )

    def _select(self, switches: frozenset[str]) -> dict[str, Any]:
        funnel = Funnel("rsft")
        trees = tables.read_trees(self.folder / "grow_rsft" / "trees")
        rows = map(tables.rsft_row, select_rsft(trees, self.templates, switches, funnel))
        count = tables.write_rows(self.folder / "select" / "rows.parquet", rows, tables.RSFT_ROWS)
        return {"num_rows": count, "funnel": funnel.to_dict()}

    def _pair(self, switches: frozenset[str]) -> dict[str, Any]:
        funnels = {kind: Funnel(kind) for kind in self.config.pairs.kinds}
        trees = tables.read_trees(self.folder / "grow_dpo" / "trees")
        rows = map(tables.pair_row, make_pairs(trees, self.templates, switches, funnels))
        count = tables.write_rows(self.folder / "pair" / "rows.parquet", rows, tables.PAIRS)
        return {"num_pairs": count, "funnels": {k: f.to_dict() for k, f in funnels.items()}}

    def _train(self, step: str, model: str, rows_of: str) -> None:
        training = getattr(self.config, step)
        rows = self.folder / rows_of / "rows.parquet"
        inputs = {
            "after": self.ledger.inputs_id(rows_of),
            "model": weights_id(model),
            "trl": training.trl,
            "deepspeed": training.deepspeed,
            "num_workers": training.num_workers,
            "save_dtype": training.save_dtype,
        }

        def work() -> dict[str, Any]:
            if not any(True for _ in tables.read_rows(rows, ["id"])):
                raise RuntimeError(f"{rows} holds no rows to train on: see the funnel of {rows_of}")
            self._wait(step)
            return asdict(train(step, training, model, rows, self.folder / step, say=_indented))

        self.ledger.step(step, inputs, work)

    def _model(self, step: str) -> str:
        return str(self.folder / step)

    def _wait(self, step: str) -> None:
        if step in self.plan:
            wait_until_free(self.plan[step])


def _done(stage: Stage1) -> set[str]:
    return set(stage.ledger.seconds())


def _indented(line: str) -> None:
    CONSOLE.print(f"  {line}")


def _model_settings(role: RoleConfig) -> dict[str, Any]:
    """What of a role decides the texts it gives; how many replicas serve it does not."""
    return {
        "weights": weights_id(role.model),
        "sampling": role.sampling,
        "max_model_len": role.engine.get("max_model_len"),
        "dtype": role.engine.get("dtype"),
    }


def _seedlings(prompts: Path, recipe: str, from_input: bool) -> Iterator[Seedling]:
    for row in tables.read_rows(prompts):
        tree = plant(tables.prompt_of(row), recipe)
        yield Seedling(take_answer(tree) if from_input else tree)
