"""The job behind the table: entrants answer the same held-out prompts through one pool."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from avr.config.answers import Mode
from avr.config.errors import ConfigError
from avr.config.table import TABLE_STEPS, EntrantConfig, TableConfig
from avr.config.texts import template_of
from avr.core.growth import Shape
from avr.core.messages import content_id
from avr.core.outputs import OutputSet, open_set
from avr.core.trajectory import PLAIN
from avr.core.tree import Prompt, RefinementTree, plant
from avr.data import tables
from avr.data.ids import Ids
from avr.data.prompt_sets import PROMPT_STEPS, content_of, ingest, prompts_of
from avr.engines.weights import weights_id
from avr.evaluation.judged import load_oracle
from avr.hosting.witness import witness_beside_driver
from avr.pipeline.plan_table import model_of, plan_table
from avr.pipeline.run import Run, context_settings, model_settings, run_steps, say_rejected
from avr.reports.final_answers import ANSWERED, final_answers
from avr.reports.table import table_of, write_table
from avr.run.ledger import Ledger
from avr.serving.journal import Place
from avr.serving.pools import Pools
from avr.serving.queries import run_queries
from avr.serving.works import AnswerAndRefine, SampleOutputs, set_query, tree_query
from avr.storage import Location, location


def run(config: TableConfig) -> None:
    """Answer what is not answered yet, then write answers.parquet, the table and its pictures."""
    plan = plan_table(config)
    run_steps(Entrants, config, plan, TABLE_STEPS, TABLE_STEPS, _summarise)


class Entrants(Run[TableConfig]):
    """The one step."""

    def answer(self) -> None:
        """Every entrant's answers, with their rewards."""
        config = self.config
        inputs = {
            "prompts": {**asdict(config.prompts), "content": content_of(config.prompts)},
            "templates": asdict(config.templates),
            "template": asdict(template_of(config.trajectories)),
            "policy": model_settings(config.policy),
            "thinking": config.thinking,
            "reward_model": model_settings(config.reward_model),
            "max_tries": config.max_tries,
            "seed": config.seed,
            **context_settings(config.context),
            "entrants": {
                name: {**_asked(entrant), "weights": weights_id(model_of(config, name))}
                for name, entrant in config.entrants.items()
            },
        }
        recipe = content_id({key: value for key, value in inputs.items() if key != "prompts"})
        self.ledger.step("answer", inputs, lambda: self._answer(recipe))

    def _answer(self, recipe: str) -> dict[str, Any]:
        config, folder = self.config, self.folder / "answer"
        file = folder / "prompts.parquet"
        ingested = ingest(
            config.prompts, file, folder / "rejected.parquet", taken=prompts_seen(config)
        )
        say_rejected(ingested, folder / "rejected.parquet")
        prompts = [tables.prompt_of(row) for row in tables.read_rows(file)]
        witness = witness_beside_driver()
        limits = config.queries
        roles = {"policy": config.policy, "reward_model": config.reward_model}
        hosted = [
            self.hosted("answer", role, settings, "answer", limits)
            for role, settings in roles.items()
        ]
        pooled = Pools(hosted, config.serving, witness, self.meter.tick)
        worked = {}
        with self.placed("answer"), pooled as pools:
            for name in config.entrants:
                ask = self._sample if _samples(config.entrants[name]) else self._refine
                queries, work, place = ask(name, prompts, recipe, pools)
                ended = run_queries(queries, work, pools, limits, place, name, witness)
                worked[name] = asdict(ended)
        return {"input": asdict(ingested), "queries": worked}

    def _refine(self, name: str, prompts: list[Prompt], recipe: str, pools: Pools) -> Any:
        entrant = self.config.entrants[name]
        work = AnswerAndRefine(
            policies={name: pools.generate("policy", model_of(self.config, name))},
            reward_model=pools.score(),
            templates=self.templates,
            shape=Shape(1, 1, self.config.max_tries, follow="last", context=self.config.context),
        )
        trees = (plant(prompt, content_id(name, recipe)) for prompt in prompts)
        queries = (tree_query(tree, name, entrant.rounds) for tree in trees)
        return queries, work, Place(self.folder / "answer" / name, "trees", tables.TREES)

    def _sample(self, name: str, prompts: list[Prompt], recipe: str, pools: Pools) -> Any:
        config, entrant = self.config, self.config.entrants[name]
        thinks = entrant.mode == Mode.recursive
        sampling = {**config.policy.sampling, **config.thinking} if thinks else None
        work = SampleOutputs(
            policies={name: pools.generate("policy", model_of(config, name), sampling)},
            reward_model=pools.score(),
            templates=self.templates,
            template=template_of(config.trajectories) if thinks else PLAIN,
            num_outputs=entrant.best_of,
            max_tries=1,  # as its user would have it: a text without a final answer is no answer
            failures_count=True,
        )
        sets = (open_set(prompt, content_id(name, recipe)) for prompt in prompts)
        queries = (set_query(outputs, name) for outputs in sets)
        return queries, work, Place(self.folder / "answer" / name, "outputs", tables.OUTPUTS)


def _samples(entrant: EntrantConfig) -> bool:
    return entrant.mode == Mode.recursive or entrant.best_of > 1


def _asked(entrant: EntrantConfig) -> dict[str, Any]:
    """What of an entrant decides its texts; which of them are taken is decided afterwards."""
    asked = {"mode": entrant.mode.value, "rounds": entrant.rounds, "best_of": entrant.best_of}
    return asked | {"trained": bool(entrant.trained)}  # whose prompts are left out


def prompts_seen(config: TableConfig) -> dict[str, Ids]:
    """Prompts that the trained entrants were trained on, by run and step.

    Raises ConfigError for a run that does not say which: a folder that was copied out of one, say.
    """
    models = {model for entrant in config.entrants.values() for model in entrant.trained}
    taken = {}
    for run in sorted({location(model).parent for model in models}, key=str):
        steps = prompts_of(run, PROMPT_STEPS)
        if not any(ids.num_rows for ids in steps.values()):
            raise ConfigError(
                f"{run} holds no prompts of a step, so which ones its model has seen is not known:"
                " 'trained' wants a model in the run that made it ('model' takes any other)"
            )
        taken |= {f"{step} of {run}": ids for step, ids in steps.items()}
    return taken


def _summarise(config: TableConfig, folder: Location, ledger: Ledger) -> None:
    found = final_answers(
        config, partial(_trees, folder), partial(_sets, folder), load_oracle(config.oracle)
    )
    rows = ({**asdict(answer), "query": query} for query, answer in found)
    tables.write_rows(folder / "answers.parquet", rows, ANSWERED)
    write_table(table_of(config, folder), folder)


def _trees(folder: Location, name: str) -> Iterator[RefinementTree]:
    yield from tables.read_trees(folder / "answer" / name / "trees")


def _sets(folder: Location, name: str) -> Iterator[OutputSet]:
    yield from tables.read_sets(folder / "answer" / name / "outputs")
