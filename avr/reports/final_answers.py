"""Make final answers of entrants' trees and outputs: one per prompt and row of the table."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa

from avr.config.answers import Mode
from avr.config.errors import ConfigError
from avr.config.rows import template_of
from avr.config.table import EntrantConfig, TableConfig
from avr.core.outputs import Output, OutputSet
from avr.core.trajectory import TrajectoryTemplate, parse_trajectory
from avr.core.tree import Prompt, RefinementTree, Verdict, reward_of
from avr.data.schemas import schema_of
from avr.evaluation.standing import Answered
from avr.reports.answers import num_refined

# How good an answer to a prompt is, 0 to 1; what judges have said of it already comes along.
Quality = Callable[[Prompt, str, Sequence[Verdict]], float]

# Only answers of several runs that are read together have a replication.
_FIELDS = [field for field in schema_of(Answered) if field.name != "replication"]
ANSWERED = pa.schema([*_FIELDS[:2], ("query", pa.string()), *_FIELDS[2:]])


def rows_of(name: str, entrant: EntrantConfig) -> list[str]:
    """List the rows of the table that an entrant fills."""
    if entrant.mode == Mode.refine:
        return [f"{name} r{rounds}" for rounds in range(entrant.rounds + 1)]
    return [name]


def row_names(config: TableConfig) -> list[str]:
    """List all rows of the table, in the order of the configuration."""
    return [row for name, entrant in config.entrants.items() for row in rows_of(name, entrant)]


def baseline_row(config: TableConfig) -> str:
    """Return the row that all are compared with: the baseline's answers without refinement."""
    return rows_of(config.baseline, config.entrants[config.baseline])[0]


def final_answers(
    config: TableConfig,
    trees: Callable[[str], Iterator[RefinementTree]],
    sets: Callable[[str], Iterator[OutputSet]],
    quality: Quality | None,
) -> Iterator[tuple[str, Answered]]:
    """Yield (last user turn, answer), entrant by entrant; `quality` says how good each is.

    `trees` and `sets` give an entrant's trees and output sets by its name. An entrant with
    `tokens_of` comes after the one that it names, whatever the order in the configuration.
    """
    spent: dict[str, dict[str, int]] = {}
    for name in in_order(config):
        entrant = config.entrants[name]
        if entrant.mode == Mode.recursive or entrant.best_of > 1:
            budget = spent[entrant.tokens_of] if entrant.tokens_of else None
            recursive = entrant.mode == Mode.recursive
            template = template_of(config.trajectories) if recursive else None
            found = (_of_set(name, item, budget, template, quality) for item in sets(name))
        else:
            rows = list(enumerate(rows_of(name, entrant)))
            found = (
                _after(row, tree, rounds, quality) for tree in trees(name) for rounds, row in rows
            )
        tokens: dict[str, int] = {}
        for query, answer in found:
            if answer.row == rows_of(name, entrant)[-1]:
                tokens[answer.prompt] = answer.num_tokens
            yield query, answer
        spent[name] = tokens


def in_order(config: TableConfig) -> list[str]:
    """List the entrants' names, each after the one that it has its token budget from.

    Raises ConfigError for a budget from an unknown entrant, or from one with a budget itself.
    """
    first = [name for name, entrant in config.entrants.items() if entrant.tokens_of is None]
    later = [name for name in config.entrants if name not in first]
    for name in later:
        of = config.entrants[name].tokens_of
        if of not in first:
            raise ConfigError(
                f"entrants.{name}.tokens_of is {of!r}; entrants that spend their own tokens are"
                f" {', '.join(first)}"
            )
    return first + later


def _after(
    row: str, tree: RefinementTree, rounds: int, quality: Quality | None
) -> tuple[str, Answered]:
    answer, first, prompt = tree.after(rounds), tree.first, tree.prompt
    draft = quality(prompt, first.text, first.verdicts) if quality and rounds else None
    return prompt.query[-1].content, Answered(
        row=row,
        prompt=tree.prompt.id,
        text=answer.text,
        reward=reward_of(answer),
        quality=quality(prompt, answer.text, answer.verdicts) if quality else None,
        num_tokens=tree.num_tokens(rounds),
        failed=num_refined(tree.levels[:rounds]) < rounds,
        draft_quality=draft,
    )


def _of_set(
    row: str,
    item: OutputSet,
    budget: Mapping[str, int] | None,
    template: TrajectoryTemplate | None,
    quality: Quality | None,
) -> tuple[str, Answered]:
    """Take the best of the outputs that the budget pays for; it always pays for the first."""
    outputs = [*item.outputs, *item.failures]
    if budget is not None:
        outputs = _paid_for(outputs, budget.get(item.prompt.id, 0))
    best = max(outputs, key=_reward)
    prompt, draft = item.prompt, None
    if quality and template and not best.failure:
        draft = quality(prompt, parse_trajectory(best.text, template).first, ())
    return prompt.query[-1].content, Answered(
        row=row,
        prompt=item.prompt.id,
        text=best.answer,
        reward=_reward(best),
        quality=quality(prompt, best.answer, best.verdicts) if quality else None,
        num_tokens=sum(output.num_tokens for output in outputs),
        failed=bool(best.failure),
        draft_quality=draft,
    )


def _paid_for(outputs: list[Output], budget: int) -> list[Output]:
    """Take the first outputs that together cost no more tokens than the budget; at least one."""
    spent, number = 0, 0
    for output in outputs:
        spent += output.num_tokens
        if spent > budget:
            break
        number += 1
    return outputs[: max(1, number)]


def _reward(output: Output) -> float:
    assert output.reward is not None
    return output.reward
