"""The job that lets our model criticise and refine the answers of any other."""

import json
from dataclasses import asdict
from typing import Any

from avr.config.answers import REFINE_STEPS, RefineConfig
from avr.core.growth import Shape, take_answer
from avr.core.messages import content_id
from avr.core.tree import plant
from avr.data import tables
from avr.data.answer_files import write_records
from avr.data.prompt_sets import content_of, ingest
from avr.hosting.witness import witness_beside_driver
from avr.pipeline.plan_evaluation import plan_refine
from avr.pipeline.run import Run, model_settings, run_steps, say_rejected, tree_settings
from avr.reports.answers import StaleError
from avr.reports.refined import outcomes_of, record_of, report_of
from avr.run.ledger import Ledger
from avr.serving.journal import Place
from avr.serving.pools import Pools
from avr.serving.queries import Work, run_queries
from avr.serving.works import AnswerAndRefine, Search, tree_query
from avr.storage import Location, location, write_text
from avr.terminal import indented


def refine_answers(config: RefineConfig) -> Location:
    """Refine what is not refined yet, and write the file of answers; returns where it lies.

    It has a row for each of the input's, in its order and with its fields; where an answer could
    not be refined it stays, and the row says why.
    """
    run_steps(Refining, config, plan_refine(config), REFINE_STEPS, REFINE_STEPS, _summarise)
    return _file(config, location(config.run_dir).resolve())


class Refining(Run[RefineConfig]):
    """The one step."""

    def refine(self) -> None:
        """A tree for every usable answer."""
        config = self.config
        reward_model = config.reward_model
        inputs = {
            "answers": {**asdict(config.answers), "content": content_of(config.answers)},
            "templates": asdict(config.templates),
            "tree": tree_settings(config.tree),
            "rounds": config.rounds,
            "policy": model_settings(config.policy),
            "reward_model": model_settings(reward_model) if reward_model else None,
            "seed": config.seed,
        }
        self.ledger.step("refine", inputs, lambda: self._refine(content_id(inputs)))

    def _refine(self, recipe: str) -> dict[str, Any]:
        config, folder = self.config, self.folder / "refine"
        prompts = folder / "prompts.parquet"
        ingested = ingest(config.answers, prompts, folder / "rejected.parquet", needs_answer=True)
        say_rejected(ingested, folder / "rejected.parquet")
        witness = witness_beside_driver()
        roles = {"policy": config.policy}
        roles |= {"reward_model": config.reward_model} if config.reward_model else {}
        hosted = [
            self.hosted("refine", role, settings, "refine", config.queries)
            for role, settings in roles.items()
        ]
        pooled = Pools(hosted, config.serving, witness, self.meter.tick)
        planted = (plant(tables.prompt_of(row), recipe) for row in tables.read_rows(prompts))
        with self.placed("refine"), pooled as pools:
            worked = run_queries(
                (tree_query(take_answer(tree), "policy", config.rounds) for tree in planted),
                self._work(pools),
                pools,
                config.queries,
                Place(folder, "trees", tables.TREES),
                "refine",
                witness,
            )
        return {"input": asdict(ingested), "queries": asdict(worked)}

    def _work(self, pools: Pools) -> Work:
        config, policy = self.config, pools.generate("policy")
        shape = asdict(config.tree)
        if config.reward_model is None:
            last = Shape(**shape, follow="last")
            return AnswerAndRefine({"policy": policy}, None, self.templates, last)
        return Search(policy, pools.score(), self.templates, Shape(**shape), config.rounds)


def _summarise(config: RefineConfig, folder: Location, ledger: Ledger) -> None:
    asked = ledger.result("refine")["input"]["num_rows"]
    outcomes = list(outcomes_of(config, folder / "refine"))
    if len(outcomes) != asked:
        raise StaleError(f"{config.answers.path} had {asked} rows when they were refined")
    file = _file(config, folder)
    write_records(file, (record_of(config, one) for one in outcomes))
    report = report_of(config, outcomes)
    write_text(folder / "report.json", json.dumps(report, indent=1))
    kept = len(outcomes) - report["refined"]
    indented(f"{len(outcomes)} rows = {report['refined']} refined + {kept} as they were")
    for reason, number in report["as_they_were"].items():
        indented(f"  {number}: {reason}")
    if report["unscored"]:
        indented(f"{report['unscored']} refinements left out: the reward model failed on them")
    if "gain" in report:
        indented(f"gain {_interval(report['gain'], 2)} logits, what stayed included")
    if "characters" in report:
        indented("characters {was:.0f} -> {is:.0f}".format(**report["characters"]))
    if "oracle" in report:
        oracle = report["oracle"]
        change = f"{oracle['was']:.3f} -> {oracle['is']:.3f}, {_interval(oracle['difference'], 3)}"
        indented(f"quality {change}; {oracle['better']} better, {oracle['worse']} worse")
    indented(f"{report['tokens']} tokens generated; answers: {file}")


def _interval(estimate: dict[str, float], digits: int) -> str:
    mean, low, high = (f"{estimate[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _file(config: RefineConfig, folder: Location) -> Location:
    listed = str(config.answers.path).endswith(".json")
    return folder / ("answers.json" if listed else "answers.jsonl")
