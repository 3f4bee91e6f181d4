"""What a model of ours answered to each row of a prompt set, and the duels with a baseline."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from avr.config.answers import Format, Mode
from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.core.messages import Conversation
from avr.data import tables
from avr.data.answer_files import answer_in, fields_of, question_of
from avr.data.prompt_sets import InputRow, input_rows
from avr.evaluation.judges import Duel
from avr.storage import Location


class Compared(Protocol):
    """What the answers are to, how they came about, and what they are compared with."""

    @property
    def prompts(self) -> PromptsConfig:
        """The input."""
        ...

    @property
    def mode(self) -> Mode:
        """How the model answers."""
        ...

    @property
    def rounds(self) -> int:
        """Rounds of mode refine."""
        ...

    @property
    def baseline(self) -> PromptsConfig | None:
        """The baseline's answers."""
        ...

    @property
    def format(self) -> Format:
        """Whose records those are."""
        ...


class StaleError(RuntimeError):
    """Files that do not belong together any more: prompts changed after they were answered, say."""


@dataclass(frozen=True)
class Answer:
    """The model's answer to one row of the input; "" where there is none, and `failure` why.

    `cut` where it ended at its token limit. `num_tokens` are those of all that was generated for
    it, critiques and rejected samples included.
    """

    row: InputRow
    text: str
    failure: str
    num_tokens: int = 0
    cut: bool = False

    @property
    def query(self) -> Conversation:
        """What was asked; of a row that holds no prompt, nothing."""
        return self.row.prompt.query if self.row.prompt else ()


def answers_of(config: Compared, folder: Location) -> Iterator[Answer]:
    """One Answer per row of the input, in its order, from the model's folder. Raises StaleError."""
    there = _texts(config, folder)
    faults = {
        row["prompt"]["id"]: row["quarantined"]
        for row in tables.read_rows(folder / "quarantine", ["prompt", "quarantined"])
    }
    for row in input_rows(config.prompts):
        if row.prompt is None:
            yield Answer(row, "", row.reason)
        elif row.prompt.id in there:
            yield Answer(row, *there[row.prompt.id])
        elif row.prompt.id in faults:
            yield Answer(row, "", faults[row.prompt.id])
        else:
            raise StaleError(f"{row.source} was not answered in {folder}: it came later")


def _texts(config: Compared, folder: Location) -> dict[str, tuple[str, str, int, bool]]:
    """Answer, failure, tokens and cut of each prompt that was answered, by its id."""
    found = {}
    if config.mode == Mode.recursive:
        for item in tables.read_sets(folder / "outputs"):
            (output,) = (*item.outputs, *item.failures)
            cut = output.finish_reason == "length"
            found[item.prompt.id] = (output.answer, output.failure, output.num_tokens, cut)
        return found
    for tree in tables.read_trees(folder / "trees"):
        refined = sum(any(c.refinements for c in level.critiques) for level in tree.levels)
        wanted = config.rounds if config.mode == Mode.refine else 0
        failure = "" if refined == wanted else f"{wanted - refined} of {wanted} rounds failed"
        last = tree.after(wanted)
        cut = last.finish_reason == "length"
        found[tree.prompt.id] = (last.text, failure, tree.num_tokens(), cut)
    return found


def baseline_of(config: Compared) -> dict[str, str]:
    """The baseline's answers, by prompt; of Arena-Hard's own records, by question.

    Raises ConfigError where there can be no duel about every row: a row that holds no prompt, or
    one that the baseline has no answer to.
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


def _key(config: Compared, row: InputRow, answers: dict[str, str]) -> str | None:
    """Under which of the two names the baseline knows a row."""
    keys = [row.prompt.id] if row.prompt else []
    keys += [question_of(row)] if config.format == Format.arena_hard else []
    return next((key for key in keys if key in answers), None)


def left_out(config: Compared) -> int:
    """How many prompts the baseline has answers to that are not asked: `prompts` is a part."""
    baseline = baseline_of(config)
    asked = {_key(config, row, baseline) for row in input_rows(config.prompts)}
    return len(baseline.keys() - asked)


def duels_of(config: Compared, folder: Location) -> Iterator[tuple[Answer, Duel]]:
    """Each answer with its duel. Raises ConfigError and StaleError."""
    baseline = baseline_of(config)
    for answer in answers_of(config, folder):
        key = _key(config, answer.row, baseline)
        assert key is not None  # baseline_of has looked
        yield answer, Duel(answer.query, baseline[key], answer.text)
