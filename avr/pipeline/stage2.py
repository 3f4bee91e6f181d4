"""Stage II in seven steps, each recorded in the run directory's ledger."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from avr.config.prompts import PromptsConfig
from avr.config.roles import FirstAnswer, RoleConfig
from avr.config.stage2 import Stage2Config
from avr.config.texts import template_of
from avr.core.growth import Shape, take_answer
from avr.core.messages import content_id
from avr.core.outputs import open_set
from avr.core.tree import RefinementTree, plant
from avr.data import tables
from avr.data.prompt_sets import ingest, prompts_of
from avr.hosting.witness import witness_beside_driver
from avr.pipeline import rows_stage2
from avr.pipeline.evaluation_stage2 import answering, evaluate, thinking
from avr.pipeline.inputs_stage2 import (
    evaluation_inputs,
    recipe_of,
    sample_inputs,
    search_inputs,
    whole_sampling,
)
from avr.pipeline.plan_stage2 import (
    own_judge_of,
    plan_stage2,
    possible_steps,
    preflight,
    start_model,
)
from avr.pipeline.run import Run, least_margin, run_steps, say_rejected
from avr.reports.stage2 import summarise
from avr.rows.rules import switched_on
from avr.serving.health import SearchWatch
from avr.serving.journal import Place
from avr.serving.pools import Pools
from avr.serving.queries import run_queries
from avr.serving.works import SampleOutputs, Search, set_query, tree_query
from avr.storage import Location, location
from avr.terminal import indented


def run(config: Stage2Config) -> None:
    """Do the steps asked for that are not done yet, then print and write the summary."""
    plan = plan_stage2(config)
    preflight(config)
    possible = possible_steps(config)
    steps = [s for s in possible if s != "evaluate" or config.evaluation is not None]
    run_steps(Stage2, config, plan, possible, steps, summarise)


class Stage2(Run[Stage2Config]):
    """The steps. Data travels between them only through files in `folder`."""

    def search(self) -> None:
        """A searched tree for every query, by the Stage I model and the reward model."""
        inputs = search_inputs(self.config)
        self.ledger.step("search", inputs, lambda: self._search(inputs))

    def unroll(self) -> None:
        """RSFT rows: one trajectory of each search that the rules let through."""
        rules = self.config.trajectories
        switches = switched_on("trajectories", rules.profile, rules.switches)
        self.check_templates("search")
        inputs = {
            "after": self.ledger.inputs_id("search"),
            "rules": sorted(switches),
            "unchanged_share": rules.unchanged_share,
            "min_gain": rules.min_gain,
            "closing": rows_stage2.closing_of(rules),
            "template": asdict(template_of(rules)),
        }
        self.ledger.step("unroll", inputs, lambda: self._unroll(switches))

    def rsft(self) -> None:
        """The Stage I model, or the untrained policy, trained to do the whole loop in one turn."""
        self.train("rsft", self.config.rsft, start_model(self.config), "unroll")

    def sample(self) -> None:
        """Whole outputs of the model that DPO starts from, their final answers rewarded."""
        config = self.config
        policy = replace(config.policy, model=self._base())
        inputs = sample_inputs(config, policy)
        self.ledger.step("sample", inputs, lambda: self._sample(policy, inputs))

    def pair(self) -> None:
        """Best and worst output of each prompt (and more pairs), under length control."""
        rules = self.config.pairs
        switches = switched_on("outputs", rules.profile, rules.switches)
        self.check_templates("sample")
        inputs = {"after": self.ledger.inputs_id("sample"), "rules": sorted(switches)}
        inputs |= least_margin(rules) | rows_stage2.more_pairs(rules)
        self.ledger.step("pair", inputs, lambda: self._pair(switches))

    def dpo(self) -> None:
        """That model trained to prefer outputs whose final answer is better (and no longer)."""
        self.train("dpo", self.config.dpo, self._base(), "pair")

    def evaluate(self) -> None:
        """Held-out prompts: seed policy, Stage I model and both recursive models."""
        config = self.config
        assert config.evaluation is not None
        done = self.ledger.seconds()
        assert config.seed_model is not None  # the plan has looked
        refining = {"seed": config.seed_model}
        if not template_of(config.trajectories).plain:
            refining["stage1"] = config.policy.model
        recursive = {step: self.model(step) for step in ("rsft", "dpo") if step in done}
        inputs = evaluation_inputs(config, {**refining, **recursive})
        self.ledger.step(
            "evaluate", inputs, lambda: self._evaluate(refining, recursive, content_id(inputs))
        )

    def _base(self) -> str:
        """The RSFT model; where there is no thinking to learn, the policy itself."""
        if template_of(self.config.trajectories).plain:
            return start_model(self.config)
        self.ledger.result("rsft")
        return self.model("rsft")

    def _evaluate(
        self, refining: Mapping[str, str], recursive: Mapping[str, str], recipe: str
    ) -> dict[str, Any]:
        config, folder = self.config, self.folder / "evaluate"
        assert config.evaluation is not None
        taken = prompts_of(self.folder, ("search", "sample"))
        if config.stage1_dir:
            taken |= prompts_of(location(config.stage1_dir), ("grow_rsft", "grow_dpo"))
        ingested = self._ingest("evaluate", config.evaluation.prompts, taken)
        witness = witness_beside_driver()
        with self._pools("evaluate", config.policy, witness) as pools:
            answer = answering(config, pools, refining)
            think = thinking(config, pools, recursive, whole_sampling(config, config.policy))
            result = evaluate(config, folder, recipe, answer, think, pools, witness)
        return {"input": ingested, **result}

    @contextmanager
    def _pools(
        self, step: str, policy: RoleConfig, witness: Any, judged: bool = True
    ) -> Iterator[Pools]:
        limits = self.config.queries
        roles = {"policy": policy}
        roles |= {"reward_model": self.config.reward_model} if judged else {}
        hosted = [
            self.hosted(step, role, settings, step, limits) for role, settings in roles.items()
        ]
        pooled = Pools(hosted, self.config.serving, witness, self.meter.tick)
        with self.placed(step), pooled as pools:
            yield pools

    def _search(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        config, place = self.config, Place(self.folder / "search", "trees", tables.TREES)
        from_input = config.first_answer == FirstAnswer.input
        ingested = self._ingest("search", config.prompts.search, needs_answer=from_input)
        prompts = place.folder / "prompts.parquet"
        planted = partial(_planted, prompts, recipe_of(inputs), from_input)
        watch = SearchWatch(place, config.health, planted(), self.templates, indented)
        witness = witness_beside_driver()
        with self._pools("search", config.policy, witness) as pools:
            work = Search(
                policy=pools.generate("policy"),
                reward_model=pools.score(),
                templates=self.templates,
                shape=Shape(**asdict(config.tree)),
                max_depth=config.max_depth,
            )
            queries, watched = map(tree_query, planted()), watch.over(pools)
            worked = run_queries(queries, work, watched, config.queries, place, "search", witness)
        watch.look()
        return {"input": ingested, "queries": asdict(worked)}

    def _sample(self, policy: RoleConfig, inputs: Mapping[str, Any]) -> dict[str, Any]:
        config, place = self.config, Place(self.folder / "sample", "outputs", tables.OUTPUTS)
        taken = prompts_of(self.folder, ("search",))
        ingested = self._ingest("sample", config.prompts.sample, taken)
        witness = witness_beside_driver()
        own = own_judge_of(config)
        with self._pools("sample", policy, witness, judged=own is None) as pools:
            work = SampleOutputs(
                policies={
                    "rsft": pools.generate("policy", sampling=whole_sampling(config, policy))
                },
                reward_model=None if own else pools.score(),
                templates=self.templates,
                template=template_of(config.trajectories),
                num_outputs=config.outputs.num_outputs,
                max_tries=config.outputs.max_tries,
                own_judge=own,
            )
            recipe = recipe_of(inputs)
            prompts = map(tables.prompt_of, tables.read_rows(place.folder / "prompts.parquet"))
            queries = (set_query(open_set(prompt, recipe), "rsft") for prompt in prompts)
            worked = run_queries(queries, work, pools, config.queries, place, "sample", witness)
        return {"input": ingested, "queries": asdict(worked)}

    def _ingest(
        self,
        step: str,
        prompts: PromptsConfig,
        taken: Mapping[str, str] = MappingProxyType({}),
        needs_answer: bool = False,
    ) -> dict[str, Any]:
        folder = self.folder / step
        rejected = folder / "rejected.parquet"
        ingested = ingest(prompts, folder / "prompts.parquet", rejected, needs_answer, taken)
        say_rejected(ingested, rejected)
        return asdict(ingested)

    def _unroll(self, switches: frozenset[str]) -> dict[str, Any]:
        return rows_stage2.unroll(
            self.folder / "search" / "trees",
            self.folder / "unroll" / "rows.parquet",
            self.templates,
            self.config.trajectories,
            switches,
        )

    def _pair(self, switches: frozenset[str]) -> dict[str, Any]:
        return rows_stage2.pair(
            self.folder / "sample" / "outputs",
            self.folder / "pair" / "rows.parquet",
            self.templates,
            self.config.pairs,
            switches,
            own_judge=self.config.outputs.judgements > 0,
        )


def _planted(prompts: Location, recipe: str, from_input: bool) -> Iterator[RefinementTree]:
    trees = (plant(tables.prompt_of(row), recipe) for row in tables.read_rows(prompts))
    return map(take_answer, trees) if from_input else trees
