"""Stage II in seven steps, each recorded in the run directory's ledger."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any

from avr.config import PromptsConfig, RoleConfig
from avr.config_stage2 import OutputPairsConfig, Stage2Config
from avr.core.funnel import Funnel
from avr.core.growth import Shape
from avr.core.messages import content_id
from avr.core.output_pairs import make_output_pairs
from avr.core.outputs import open_set
from avr.core.own_judge import make_judgement_pairs
from avr.core.selection import switched_on
from avr.core.tree import RefinementTree, plant
from avr.core.unrolling import select_trajectories
from avr.engines.weights import weights_id
from avr.pipeline import tables
from avr.pipeline.evaluation_stage2 import evaluate
from avr.pipeline.journal import Place
from avr.pipeline.plan_stage2 import (
    own_judge_of,
    plan_stage2,
    possible_steps,
    preflight,
    template_of,
)
from avr.pipeline.pools import Pools
from avr.pipeline.prompts import content_of, ingest, prompts_of
from avr.pipeline.queries import run_queries
from avr.pipeline.run import Run, indented, least_margin, model_settings, run_steps, say_rejected
from avr.pipeline.search_health import SearchWatch
from avr.pipeline.summary_stage2 import summarise
from avr.pipeline.witness import witness_beside_driver
from avr.pipeline.works import AnswerAndRefine, SampleOutputs, Search, set_query, tree_query
from avr.storage import Location, location


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
        config = self.config
        inputs = {
            **self._inputs(config.policy, config.prompts.search),
            "tree": asdict(config.tree),
            "max_depth": config.max_depth,
        }
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
            "template": asdict(template_of(rules)),
        }
        self.ledger.step("unroll", inputs, lambda: self._unroll(switches))

    def rsft(self) -> None:
        """The Stage I model trained to do the whole loop in one turn."""
        self.train("rsft", self.config.rsft, self.config.policy.model, "unroll")

    def sample(self) -> None:
        """Whole outputs of the model that DPO starts from, their final answers rewarded."""
        config = self.config
        policy = replace(config.policy, model=self._base())
        asked = self._inputs(policy, config.prompts.sample) | {"outputs": asdict(config.outputs)}
        if own_judge_of(config):
            del asked["reward_model"]
        else:
            del asked["outputs"]["judgements"], asked["outputs"]["meta_request"]
        inputs = asked | {"template": asdict(template_of(config.trajectories))}
        self.ledger.step("sample", inputs, lambda: self._sample(policy, inputs))

    def pair(self) -> None:
        """Best and worst output of each prompt (and more pairs), under length control."""
        rules = self.config.pairs
        switches = switched_on("outputs", rules.profile, rules.switches)
        self.check_templates("sample")
        inputs = {"after": self.ledger.inputs_id("sample"), "rules": sorted(switches)}
        inputs |= least_margin(rules) | more_pairs(rules)
        self.ledger.step("pair", inputs, lambda: self._pair(switches))

    def dpo(self) -> None:
        """That model trained to prefer outputs whose final answer is better (and no longer)."""
        self.train("dpo", self.config.dpo, self._base(), "pair")

    def evaluate(self) -> None:
        """Held-out prompts: seed policy, Stage I model and both recursive models."""
        config = self.config
        assert config.evaluation is not None
        done = self.ledger.seconds()
        refining = {"seed": config.evaluation.seed}
        if not template_of(config.trajectories).plain:
            refining["stage1"] = config.policy.model
        recursive = {step: self.model(step) for step in ("rsft", "dpo") if step in done}
        inputs = {
            **self._inputs(config.policy, config.evaluation.prompts),
            "models": {n: weights_id(m) for n, m in {**refining, **recursive}.items()},
            "evaluation": asdict(config.evaluation),
            "sampling": self._whole(config.policy),
            "max_tries": config.tree.max_tries,
            "template": asdict(template_of(config.trajectories)),
        }
        self.ledger.step(
            "evaluate", inputs, lambda: self._evaluate(refining, recursive, content_id(inputs))
        )

    def _base(self) -> str:
        """The RSFT model; where there is no thinking to learn, the policy itself."""
        if template_of(self.config.trajectories).plain:
            return self.config.policy.model
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
            sampling = self._whole(config.policy)
            reward_model = pools.score()
            shape = Shape(1, 1, config.tree.max_tries, follow="last")
            answer = AnswerAndRefine(
                policies={n: pools.generate("policy", model) for n, model in refining.items()},
                reward_model=reward_model,
                templates=self.templates,
                shape=shape,
            )
            think = SampleOutputs(
                policies={
                    n: pools.generate("policy", model, sampling) for n, model in recursive.items()
                },
                reward_model=reward_model,
                templates=self.templates,
                template=template_of(config.trajectories),
                num_outputs=1,
                max_tries=1,
                failures_count=True,
            )
            result = evaluate(config, folder, recipe, answer, think, pools, witness)
        return {"input": ingested, **result}

    def _inputs(self, policy: RoleConfig, prompts: PromptsConfig) -> dict[str, Any]:
        config = self.config
        return {
            "prompts": {**asdict(prompts), "content": content_of(prompts)},
            "templates": asdict(config.templates),
            "policy": model_settings(policy),
            "reward_model": model_settings(config.reward_model),
            "seed": config.seed,
        }

    def _whole(self, policy: RoleConfig) -> dict[str, Any]:
        """Sampling of whole outputs: the policy's, with what is said for outputs laid over."""
        return {**policy.sampling, **self.config.outputs.sampling}

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
        ingested = self._ingest("search", config.prompts.search)
        planted = partial(_planted, place.folder / "prompts.parquet", _recipe(inputs))
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
                policies={"rsft": pools.generate("policy", sampling=self._whole(policy))},
                reward_model=None if own else pools.score(),
                templates=self.templates,
                template=template_of(config.trajectories),
                num_outputs=config.outputs.num_outputs,
                max_tries=config.outputs.max_tries,
                own_judge=own,
            )
            recipe = _recipe(inputs)
            prompts = map(tables.prompt_of, tables.read_rows(place.folder / "prompts.parquet"))
            queries = (set_query(open_set(prompt, recipe), "rsft") for prompt in prompts)
            worked = run_queries(queries, work, pools, config.queries, place, "sample", witness)
        return {"input": ingested, "queries": asdict(worked)}

    def _ingest(
        self, step: str, prompts: PromptsConfig, taken: Mapping[str, str] = MappingProxyType({})
    ) -> dict[str, Any]:
        folder = self.folder / step
        ingested = ingest(
            prompts, folder / "prompts.parquet", folder / "rejected.parquet", taken=taken
        )
        say_rejected(ingested, folder / "rejected.parquet")
        return asdict(ingested)

    def _unroll(self, switches: frozenset[str]) -> dict[str, Any]:
        rules, funnel = self.config.trajectories, Funnel("trajectories")
        rows = select_trajectories(
            tables.read_trees(self.folder / "search" / "trees"),
            self.templates,
            template_of(rules),
            switches,
            funnel,
            unchanged_share=rules.unchanged_share,
            min_gain=rules.min_gain,
        )
        file = self.folder / "unroll" / "rows.parquet"
        count = tables.write_rows(file, map(tables.rsft_row, rows), tables.RSFT_ROWS)
        num_unchanged = sum(row["gain"] == 0 for row in tables.read_rows(file, ["gain"]))
        return {"num_rows": count, "num_unchanged": num_unchanged, "funnel": funnel.to_dict()}

    def _pair(self, switches: frozenset[str]) -> dict[str, Any]:
        funnels, rules = [Funnel("outputs")], self.config.pairs
        outputs = partial(tables.read_sets, self.folder / "sample" / "outputs")
        pairs = make_output_pairs(
            outputs,
            self.templates,
            switches,
            funnels[0],
            rules.min_margin,
            per_prompt=rules.per_prompt,
            max_pairs=rules.max_pairs,
        )
        if self.config.outputs.judgements:
            funnels.append(Funnel("judgements"))
            pairs = chain(pairs, make_judgement_pairs(outputs(), self.templates, funnels[1]))
        file = self.folder / "pair" / "rows.parquet"
        count = tables.write_rows(file, map(tables.pair_row, pairs), tables.PAIRS)
        return {"num_pairs": count, "funnels": [funnel.to_dict() for funnel in funnels]}


def _planted(prompts: Location, recipe: str) -> Iterator[RefinementTree]:
    return (plant(tables.prompt_of(row), recipe) for row in tables.read_rows(prompts))


def more_pairs(rules: OutputPairsConfig) -> dict[str, Any]:
    """What the step of pairs depends on besides; nothing where it is one of each prompt."""
    plain = rules.per_prompt == 1 and rules.max_pairs is None
    return {} if plain else {"per_prompt": rules.per_prompt, "max_pairs": rules.max_pairs}


def _recipe(inputs: Mapping[str, Any]) -> str:
    """What a query grows from, less where the prompts lie: they do not change what grows."""
    return content_id({key: value for key, value in inputs.items() if key != "prompts"})
