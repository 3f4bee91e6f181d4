"""Read our model's answers to the rows of a prompt set, and make duels with a baseline."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from avr.config.answers import EvaluateConfig, Format, Mode
from avr.config.errors import ConfigError
from avr.core.messages import Conversation
from avr.core.tree import Level
from avr.data import tables
from avr.data.answer_files import answer_in, fields_of, question_of
from avr.data.prompt_sets import InputRow, input_rows
from avr.evaluation.judges import Duel
from avr.storage import Location


class StaleError(RuntimeError):
    """Signal files that no longer belong together, such as answers to changed prompts."""


@dataclass(frozen=True)
class Answer:
    """Hold the model's answer to one row of the input; "" where there is none.

    `failure` says why there is none, or how many rounds failed; "" otherwise. `cut` says whether
    the answer ended at its token limit. `num_tokens` counts all tokens generated for it, critiques
    and rejected samples included.
    """

    row: InputRow
    text: str
    failure: str
    num_tokens: int = 0
    cut: bool = False

    @property
    def query(self) -> Conversation:
        """Return the prompt's conversation; an empty one for a row without a prompt."""
        return self.row.prompt.query if self.row.prompt else ()


def answers_of(config: EvaluateConfig, folder: Location) -> Iterator[Answer]:
    """Yield one Answer per row of the input, in its order, from the model's folder.

    Raises StaleError for a row that was not answered there.
    """
    there, faults = _texts(config, folder), faults_in(folder)
    for row in input_rows(config.prompts):
        if row.prompt is None:
            yield Answer(row, "", row.reason)
        elif row.prompt.id in there:
            yield Answer(row, *there[row.prompt.id])
        elif row.prompt.id in faults:
            yield Answer(row, "", faults[row.prompt.id])
        else:
            raise StaleError(f"{row.source} has no answer in {folder}: the row came after the run")


def faults_in(folder: Location) -> dict[str, str]:
    """Read why prompts are in a model's quarantine, by the prompt's id."""
    rows = tables.read_rows(folder / "quarantine", ["prompt", "quarantined"])
    return {row["prompt"]["id"]: row["quarantined"] for row in rows}


def num_refined(levels: Iterable[Level]) -> int:
    """Count the rounds in which a model refined its answer."""
    return sum(any(critique.refinements for critique in level.critiques) for level in levels)


def _texts(config: EvaluateConfig, folder: Location) -> dict[str, tuple[str, str, int, bool]]:
    """Read the answer, failure, tokens and cut of each answered prompt, by the prompt's id."""
    found = {}
    if config.mode == Mode.recursive:
        for item in tables.read_sets(folder / "outputs"):
            (output,) = (*item.outputs, *item.failures)
            cut = output.finish_reason == "length"
            found[item.prompt.id] = (output.answer, output.failure, output.num_tokens, cut)
        return found
    for tree in tables.read_trees(folder / "trees"):
        refined = num_refined(tree.levels)
        wanted = config.rounds if config.mode == Mode.refine else 0
        failure = "" if refined == wanted else f"{wanted - refined} of {wanted} rounds failed"
        last = tree.after(wanted)
        cut = last.finish_reason == "length"
        found[tree.prompt.id] = (last.text, failure, tree.num_tokens(), cut)
    return found


def baseline_of(config: EvaluateConfig) -> dict[str, str]:
    """Read the baseline's answers, by prompt; from Arena-Hard's own records, by question.

    Raises ConfigError where a row can have no duel: it holds no prompt, or the baseline has no
    answer to it.
    """
    assert config.baseline is not None
    field = config.baseline.answer_field or ""
    answers: dict[str, str] = {}
    useless = []
    for row in input_rows(config.baseline):
        fields = fields_of(row)
        text = answer_in(fields)
        if config.format == Format.arena_hard and text is not None:
            answers.setdefault(question_of(row), text)
        elif row.prompt is not None and field in fields:
            answers.setdefault(row.prompt.id, row.prompt.answer or "")
        else:
            useless.append(f"{row.source}: {row.reason or f'no field {field!r}'}")
    for row in input_rows(config.prompts):
        if row.prompt is None:
            raise ConfigError(
                f"{row.source} cannot be used ({row.reason}), and there is no win rate without"
                " every row; baseline=null only answers"
            )
        if _key(config, row, answers) is None:
            why = (
                f"; {len(useless)} of its rows are of no use, first {useless[0]}" if useless else ""
            )
            raise ConfigError(
                f"{config.baseline.path} has no answer to the prompt of {row.source}{why}"
            )
    return answers


def _key(config: EvaluateConfig, row: InputRow, answers: dict[str, str]) -> str | None:
    """Find the name that the baseline has a row under, prompt or question; None without one."""
    keys = [row.prompt.id] if row.prompt else []
    keys += [question_of(row)] if config.format == Format.arena_hard else []
    return next((key for key in keys if key in answers), None)


def left_out(config: EvaluateConfig) -> int:
    """Count the prompts that the baseline has answers to but that are not asked.

    There are such prompts where `prompts` is only a part of the set.
    """
    baseline = baseline_of(config)
    asked = {_key(config, row, baseline) for row in input_rows(config.prompts)}
    return len(baseline.keys() - asked)


def duels_of(config: EvaluateConfig, folder: Location) -> Iterator[tuple[Answer, Duel]]:
    """Yield each answer with its duel. Raises ConfigError and StaleError."""
    baseline = baseline_of(config)
    for answer in answers_of(config, folder):
        key = _key(config, answer.row, baseline)
        assert key is not None  # baseline_of has checked it
        yield answer, Duel(answer.query, baseline[key], answer.text)
