"""Let entrants answer the same held-out prompts; a table says how they compare."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from avr.config.answers import Mode
from avr.config.errors import ConfigError
from avr.config.rows import TreeConfig, template_of
from avr.config.table import EntrantConfig, TableConfig
from avr.core.tree import Prompt, Verdict
from avr.data.tables import write_rows
from avr.data.used_prompts import training_prompts
from avr.evaluation.judged import load_oracle
from avr.reports.final_answers import ANSWERED, Quality, final_answers, in_order, row_names
from avr.reports.table import table_of, write_table
from avr.rewards.reward import Reward, reward_of
from avr.run.recipe import Recipe
from avr.run.step import Run
from avr.steps.answer import Answer
from avr.steps.entrant import Entrant
from avr.storage import location

SCHEMA = TableConfig


def recipe(c: TableConfig) -> Recipe:
    """Answer in one step; leave answers.parquet, table.md, table.json and pictures.

    Raises ConfigError.
    """
    reward = reward_of(c.reward, c.reward_model)
    trained = {model for entrant in c.entrants.values() for model in entrant.trained}
    answers = Answer.of(
        c,
        "answer",
        c.prompts,
        [_entrant(c, name, entrant) for name, entrant in c.entrants.items()],
        reward,
        template_of(c.trajectories),
        TreeConfig(1, 1, c.max_tries, c.context),
        used_in=tuple(sorted({str(location(model).parent) for model in trained})),
    )

    def finish(run: Run) -> None:
        trees, sets = partial(answers.trees, run), partial(answers.sets, run)
        # One loop for all drafts: a verifier keeps its process for as long as its loop lives.
        with asyncio.Runner() as runner:
            found = list(final_answers(c, trees, sets, _quality(c, reward, runner)))
        rows = ({**asdict(answer), "query": query} for query, answer in found)
        write_rows(run.folder / "answers.parquet", rows, ANSWERED)
        write_table(table_of(c, run.folder), run.folder)

    return Recipe("Table", (answers,), finish, lambda: _check(c, answers))


def _quality(c: TableConfig, reward: Reward, runner: asyncio.Runner) -> Quality | None:
    """Return what knows how good an answer is: the oracle, else a verifier; None without both."""
    oracle, truth = load_oracle(c.oracle), reward.truth
    if oracle is not None:
        return lambda prompt, text, _: oracle(prompt.query[-1].content, text)
    if truth is None:
        return None

    def verified(prompt: Prompt, text: str, verdicts: Sequence[Verdict]) -> float:
        for verdict in verdicts:
            if verdict.by == truth.name:
                return verdict.reward
        # The draft in a trajectory, which nobody has judged yet.
        return runner.run(truth.score(prompt, text)).reward

    return verified


def _entrant(c: TableConfig, name: str, entrant: EntrantConfig) -> Entrant:
    at, model = f"entrants.{name}.model", entrant.model
    if entrant.trained:
        at, model = f"entrants.{name}.trained", entrant.trained[-1]
    thinks = entrant.mode == Mode.recursive
    return Entrant(
        name,
        model or c.policy.model,
        entrant.mode,
        entrant.rounds,
        entrant.best_of,
        c.thinking if thinks else None,
        at=at,
    )


def _check(c: TableConfig, answers: Answer) -> None:
    for name, entrant in c.entrants.items():
        _check_entrant(name, entrant)
    if c.baseline not in c.entrants:
        names = ", ".join(c.entrants)
        raise ConfigError(f"baseline is {c.baseline!r}; there are: {names}")
    in_order(c)
    twice = [name for name, number in Counter(row_names(c)).items() if number > 1]
    if twice:
        raise ConfigError(f"entrants: two of them would have the same row {twice[0]!r}")
    load_oracle(c.oracle)
    for run in answers.used_in:
        if not any(ids.num_rows for ids in training_prompts(location(run)).values()):
            raise ConfigError(
                f"no step in {run} has prompts, so which ones its model was trained on is not"
                " known: 'trained' needs a model inside the run that made it; 'model' takes any"
            )


# Folders that lie beside those of the entrants.
_RESERVED = ("logs", "parity", ".", "..")


def _check_entrant(name: str, entrant: EntrantConfig) -> None:
    at = f"entrants.{name}"
    if not name or any(sign in name for sign in "/<|") or name in _RESERVED:
        raise ConfigError(
            f"{at}: the name must be fit for a folder and a row: not empty, not one of"
            f" {', '.join(_RESERVED)}, and without <, | or /"
        )
    if entrant.trained and entrant.model:
        raise ConfigError(f"{at}: set either model or trained, not both")
    if bool(entrant.rounds) != (entrant.mode == Mode.refine):
        raise ConfigError(
            f"{at}: mode is {entrant.mode.value}, rounds {entrant.rounds}; only refine has rounds"
        )
    if entrant.best_of > 1 and entrant.mode != Mode.plain:
        raise ConfigError(f"{at}: best_of goes with mode plain, not {entrant.mode.value}")
    if entrant.tokens_of is not None and entrant.best_of == 1:
        raise ConfigError(f"{at}: tokens_of chooses among samples, and best_of is 1")
    for model in entrant.trained:
        if not (location(model) / "training.json").exists():
            raise ConfigError(f"{at}.trained: no training of ours has left {model}")
