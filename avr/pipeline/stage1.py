"""Stage I in seven steps, each recorded in the run directory's ledger."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from typing import Any

from avr.config.prompts import PromptsConfig
from avr.config.roles import FirstAnswer, RoleConfig
from avr.config.stage1 import STEPS, Stage1Config
from avr.core.growth import Shape, take_answer
from avr.core.messages import content_id
from avr.core.tree import plant
from avr.data import tables
from avr.data.prompt_sets import content_of, ingest, prompts_of
from avr.dataflow.grow import Seedling, grow, waves
from avr.dataflow.health import HealthWatch
from avr.dataflow.operators import Operator
from avr.engines.weights import weights_id
from avr.pipeline.evaluation import evaluate
from avr.pipeline.plan_stage1 import plan_stage1, second_policy
from avr.pipeline.preflight import preflight
from avr.pipeline.run import (
    Run,
    context_settings,
    least_margin,
    model_settings,
    run_steps,
    say_rejected,
    tree_settings,
)
from avr.reports.summary import summarise
from avr.rows.funnel import Funnel
from avr.rows.refinements import select_rsft
from avr.rows.rules import switched_on
from avr.rows.tree_pairs import make_pairs
from avr.storage import Location
from avr.terminal import indented


def run(config: Stage1Config) -> None:
    """Do the steps asked for that are not done yet, then print and write the summary."""
    plan = plan_stage1(config)
    preflight(config)
    steps = [s for s in STEPS if s != "evaluate" or config.evaluation is not None]
    run_steps(Stage1, config, plan, STEPS, steps, summarise)


class Stage1(Run[Stage1Config]):
    """The steps. Data travels between them only through files in `folder`."""

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
        self.check_templates("grow_rsft")
        inputs = {"after": self.ledger.inputs_id("grow_rsft"), "rules": sorted(switches)}
        self.ledger.step("select", inputs, lambda: self._select(switches))

    def rsft(self) -> None:
        """The policy trained on whole refinement conversations."""
        self.train("rsft", self.config.rsft, self.config.policy.model, "select")

    def grow_dpo(self) -> None:
        """Trees of the RSFT model, policy and corrector in one, on other prompts."""
        self.ledger.result("rsft")
        policy = replace(second_policy(self.config), model=self.model("rsft"))
        self._grow("grow_dpo", self.config.prompts.dpo, {"policy": policy}, from_input=False)

    def pair(self) -> None:
        """Preference pairs of three kinds."""
        rules = self.config.pairs
        switches = switched_on("pairs", rules.profile, rules.switches)
        self.check_templates("grow_dpo")
        inputs = {
            "after": self.ledger.inputs_id("grow_dpo"),
            "rules": sorted(switches),
            "kinds": rules.kinds,
        } | least_margin(rules)
        self.ledger.step("pair", inputs, lambda: self._pair(switches))

    def dpo(self) -> None:
        """The RSFT model trained to prefer the better answers, critiques and refinements."""
        self.train("dpo", self.config.dpo, self.model("rsft"), "pair")

    def evaluate(self) -> None:
        """Held-out prompts answered and self-refined by the models, judged by reward and oracle."""
        config = self.config
        assert config.evaluation is not None
        models = {"seed": config.policy.model}
        models |= {
            step: self.model(step) for step in ("rsft", "dpo") if step in self.ledger.seconds()
        }
        inputs = {
            "models": {name: weights_id(model) for name, model in models.items()},
            "evaluation": asdict(config.evaluation),
            "prompts": content_of(config.evaluation.prompts),
            "reward_model": model_settings(config.reward_model),
            "templates": asdict(config.templates),
            "policy": model_settings(config.policy),
            "max_tries": config.tree.max_tries,
            "seed": config.seed,
            **context_settings(config.tree.context),
        }
        shape = Shape(1, 1, config.tree.max_tries, follow="last", context=config.tree.context)
        operators = [
            self._operator("answer", "policy", config.policy, shape, "evaluate"),
            self._operator("score", "reward_model", config.reward_model, shape, "evaluate"),
        ]

        def work() -> dict[str, Any]:
            return evaluate(
                config.evaluation,
                models,
                operators,
                config.growth,
                self.folder / "evaluate",
                inputs,
                partial(self.placed, "evaluate"),
                self.meter.tick,
            )

        self.ledger.step("evaluate", inputs, work)

    def _grow(
        self, step: str, prompts: PromptsConfig, roles: dict[str, RoleConfig], from_input: bool
    ) -> None:
        config = self.config
        inputs = {
            "prompts": {**asdict(prompts), "content": content_of(prompts)},
            "first_answer": "input" if from_input else "sampled",
            "templates": asdict(config.templates),
            # One level has nothing before it, whatever the context.
            "tree": tree_settings(replace(config.tree, context="answer")),
            "reward_model": model_settings(config.reward_model),
            "seed": config.seed,
            **{role: model_settings(settings) for role, settings in roles.items()},
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
        say_rejected(ingested, folder / "rejected.parquet")
        # Where a prompt set lies does not change the trees that grow from it.
        recipe = content_id({k: v for k, v in inputs.items() if k != "prompts"})
        seedlings = partial(_seedlings, folder / "prompts.parquet", recipe, from_input)
        config = self.config.growth
        first = (seedling.tree.id for seedling in islice(seedlings(), config.health.num_trees))
        watch = HealthWatch(folder, config.health, "growth.health", first, self.templates, indented)
        parts = [out for out, _ in waves(operators, config.placement, folder)]

        def committed() -> None:
            watch.look_at_parts([*parts, folder / "quarantine"])
            self.meter.tick()

        watch.look_at_parts([*parts, folder / "quarantine"])
        grown = grow(seedlings(), operators, config, folder, partial(self.placed, step), committed)
        return {"input": asdict(ingested), "growth": asdict(grown)}

    def _operator(
        self, name: str, role: str, settings: RoleConfig, shape: Shape, step: str
    ) -> Operator:
        hosted = self.hosted(name, role, settings, step, self.config.growth)
        return Operator(name, hosted, self.templates, shape)

    def _select(self, switches: frozenset[str]) -> dict[str, Any]:
        funnel = Funnel("rsft")
        trees = tables.read_trees(self.folder / "grow_rsft" / "trees")
        rows = map(tables.rsft_row, select_rsft(trees, self.templates, switches, funnel))
        count = tables.write_rows(self.folder / "select" / "rows.parquet", rows, tables.RSFT_ROWS)
        return {"num_rows": count, "funnel": funnel.to_dict()}

    def _pair(self, switches: frozenset[str]) -> dict[str, Any]:
        funnels = {kind: Funnel(kind) for kind in self.config.pairs.kinds}
        trees = tables.read_trees(self.folder / "grow_dpo" / "trees")
        margin = self.config.pairs.min_margin
        pairs = make_pairs(trees, self.templates, switches, funnels, margin)
        rows = map(tables.pair_row, pairs)
        count = tables.write_rows(self.folder / "pair" / "rows.parquet", rows, tables.PAIRS)
        return {"num_pairs": count, "funnels": {k: f.to_dict() for k, f in funnels.items()}}


def _seedlings(prompts: Location, recipe: str, from_input: bool) -> Iterator[Seedling]:
    for row in tables.read_rows(prompts):
        tree = plant(tables.prompt_of(row), recipe)
        yield Seedling(take_answer(tree) if from_input else tree)
