"""The job that answers a prompt set with a model of ours and has the answers judged."""

import json
from dataclasses import asdict
from typing import Any

from avr.config.answers import EVALUATE_STEPS, EvaluateConfig, Format, Mode
from avr.config.errors import ConfigError
from avr.config.judges import JudgeKind
from avr.config.texts import template_of
from avr.core.growth import Shape
from avr.core.messages import content_id
from avr.core.outputs import open_set
from avr.core.tree import plant
from avr.data import tables
from avr.data.answer_files import alpaca_record, arena_record, write_records
from avr.data.prompt_sets import content_of, ingest
from avr.evaluation.judges import INSTRUCTIONS
from avr.hosting.witness import witness_beside_driver
from avr.pipeline.judging import PREFERENCES, JudgeDuels, NoPools, duel_queries
from avr.pipeline.plan_evaluation import plan_evaluate
from avr.pipeline.run import Run, model_settings, run_steps, say_rejected, tree_settings
from avr.reports.answers import answers_of, baseline_of, duels_of
from avr.reports.evaluation import report
from avr.run.ledger import Ledger
from avr.serving.journal import Place
from avr.serving.pools import Pools
from avr.serving.queries import run_queries
from avr.serving.works import AnswerAndRefine, SampleOutputs, set_query, tree_query
from avr.storage import Location
from avr.terminal import indented


def run(config: EvaluateConfig) -> None:
    """Answer and judge what is not done yet; writes the files of answers and the report.

    Raises ConfigError where the baseline leaves a prompt without a duel: before anything is spent.
    """
    steps = [step for step in EVALUATE_STEPS if step == "answer" or config.baseline is not None]
    plan = plan_evaluate(config)
    if config.baseline is not None:
        baseline_of(config)
    run_steps(Evaluating, config, plan, EVALUATE_STEPS, steps, _summarise)


class Evaluating(Run[EvaluateConfig]):
    """The two steps."""

    def answer(self) -> None:
        """An answer to every prompt."""
        inputs = _asked(self.config)
        self.ledger.step("answer", inputs, lambda: self._answer(content_id(inputs)))

    def judge(self) -> None:
        """A preference for every prompt."""
        config = self.config
        assert config.baseline is not None
        _check_same(config, self.ledger)
        judge = config.judge
        inputs: dict[str, Any] = {
            "after": self.ledger.inputs_id("answer"),
            "baseline": {**asdict(config.baseline), "content": content_of(config.baseline)},
            "judge": judge.kind.value,
        }
        if judge.kind == JudgeKind.endpoint:
            inputs |= {
                "server": judge.endpoint.base_url,
                "model": judge.endpoint.model,
                "request": judge.endpoint.request,
                "words": content_id(INSTRUCTIONS),
            }
        elif judge.kind == JudgeKind.reward_model:
            assert judge.reward_model is not None
            inputs |= {"model": model_settings(judge.reward_model)}
        else:
            inputs |= {"oracle": judge.oracle}
        self.ledger.step("judge", inputs, self._judge)

    def _answer(self, recipe: str) -> dict[str, Any]:
        config, folder = self.config, self.folder / "answer"
        prompts = folder / "prompts.parquet"
        ingested = ingest(config.prompts, prompts, folder / "rejected.parquet")
        say_rejected(ingested, folder / "rejected.parquet")
        witness = witness_beside_driver()
        hosted = self.hosted("answer", "policy", config.policy, "answer", config.queries)
        pooled = Pools([hosted], config.serving, witness, self.meter.tick)
        asked = (tables.prompt_of(row) for row in tables.read_rows(prompts))
        with self.placed("answer"), pooled as pools:
            policies = {"policy": pools.generate("policy")}
            if config.mode == Mode.recursive:
                template = template_of(config.trajectories)
                work: Any = SampleOutputs(policies, None, self.templates, template, 1, 1)
                queries = (set_query(open_set(prompt, recipe), "policy") for prompt in asked)
                place = Place(folder, "outputs", tables.OUTPUTS)
            else:
                shape = Shape(**asdict(config.tree), follow="last")
                rounds = config.rounds if config.mode == Mode.refine else 0
                work = AnswerAndRefine(policies, None, self.templates, shape)
                queries = (tree_query(plant(p, recipe), "policy", rounds) for p in asked)
                place = Place(folder, "trees", tables.TREES)
            worked = run_queries(queries, work, pools, config.queries, place, "answer", witness)
        return {"input": asdict(ingested), "queries": asdict(worked)}

    def _judge(self) -> dict[str, Any]:
        config, folder = self.config, self.folder / "judge"
        duels = [duel for _, duel in duels_of(config, self.folder)]
        witness = witness_beside_driver()
        place = Place(folder, "preferences", PREFERENCES)

        def judged(work: JudgeDuels, pools: Any) -> dict[str, Any]:
            queries = duel_queries(duels)
            return asdict(
                run_queries(queries, work, pools, config.queries, place, "judge", witness)
            )

        judge = config.judge
        if judge.kind != JudgeKind.reward_model:
            endpoint = judge.endpoint if judge.kind == JudgeKind.endpoint else None
            return judged(JudgeDuels(endpoint, oracle=judge.oracle), NoPools())
        assert judge.reward_model is not None
        hosted = self.hosted("judge", "reward_model", judge.reward_model, "judge", config.queries)
        pooled = Pools([hosted], config.serving, witness, self.meter.tick)
        with self.placed("judge"), pooled as pools:
            return judged(JudgeDuels(reward_model=pools.score()), pools)


def _asked(config: EvaluateConfig) -> dict[str, Any]:
    """What decides the answers."""
    inputs = {
        "prompts": {**asdict(config.prompts), "content": content_of(config.prompts)},
        "templates": asdict(config.templates),
        "policy": model_settings(config.policy),
        "mode": config.mode.value,
        "seed": config.seed,
    }
    if config.mode == Mode.recursive:
        return inputs | {"template": asdict(template_of(config.trajectories))}
    if config.mode == Mode.plain:
        return inputs | {"max_tries": config.tree.max_tries}
    return inputs | {"rounds": config.rounds, "tree": tree_settings(config.tree)}


def _check_same(config: EvaluateConfig, ledger: Ledger) -> None:
    """The answers that are there must be those of this configuration."""
    if ledger.inputs("answer") != json.loads(json.dumps(_asked(config))):
        raise ConfigError("these are not the settings that the prompts were answered under")


def _summarise(config: EvaluateConfig, folder: Location, ledger: Ledger) -> None:
    _check_same(config, ledger)
    answers = list(answers_of(config, folder))
    if config.format == Format.alpaca_eval:
        file, field = folder / "outputs.json", config.prompts.prompt_field
        records = (alpaca_record(a.row, field, a.text, config.name) for a in answers)
    else:
        file = folder / f"{config.name}.jsonl"
        records = (arena_record(a.row, a.text, config.name) for a in answers)
    indented(f"{write_records(file, records)} answers: {file}")
    judged = config.baseline is not None and "judge" in ledger.seconds()
    duels = list(duels_of(config, folder)) if judged else []
    settings = ledger.inputs("judge") if judged else {}
    report(config, folder, duels, answers, settings, indented)
