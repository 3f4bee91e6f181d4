"""Make a prompt of one row of the input: the query, and what a verifier will need."""

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from string import Formatter
from typing import Any

from avr.config.prompts import PromptsConfig
from avr.core.messages import Conversation, content_id, from_dicts, kind_of, user
from avr.core.tree import Prompt


def prompt_in(
    row: Mapping[str, Any] | ValueError, source: str, config: PromptsConfig, needs_answer: bool
) -> Prompt:
    """Make the prompt of a row. Raises ValueError, with the field, for one that cannot be used."""
    if isinstance(row, ValueError):
        raise row
    query = _query(row, config)
    if query[-1].role != "user":
        raise ValueError(f"field {config.prompt_field!r} ends with the {query[-1].role}'s turn")
    answer = None
    if config.answer_field:
        try:
            answer = _answer(row, config.answer_field)
        except ValueError:
            if needs_answer:
                raise
    # A row that cannot be judged would be found out hours later, when it has been answered.
    reference = _reference(row, config.reference_field) if config.reference_field else None
    tests = _tests(row, config.tests_field) if config.tests_field else ()
    setup = _text(row, config.setup_field, may_be_empty=True) if config.setup_field else ""
    made = f"field {config.prompt_field!r}" if config.prompt_format is None else _MADE
    for what, texts in (
        (made, [m.content for m in query]),
        (f"field {config.answer_field!r}", [answer or ""]),
        (f"field {config.reference_field!r}", [reference or ""]),
        (f"field {config.tests_field!r}", tests),
        (f"field {config.setup_field!r}", [setup]),
    ):
        _check_storable(what, texts)
    return Prompt.of(query, answer, source, reference=reference, tests=tests, setup=setup)


def question_in(row: Mapping[str, Any], config: PromptsConfig) -> str:
    """Return an id of what a row asks, whatever its prompt; "" where no setting names the field.

    White space plays no part. Raises ValueError for a row without it.
    """
    if not config.question_field:
        return ""
    return content_id("question", _text(row, config.question_field).split())


def _query(row: Mapping[str, Any], config: PromptsConfig) -> Conversation:
    if config.prompt_format is None:
        return _conversation(row, config.prompt_field)
    if not isinstance(row, Mapping):
        raise ValueError(f"the row is {kind_of(row)}, not an object")
    for field in fields_in(config.prompt_format):
        if field not in row:
            known = ", ".join(sorted(map(str, row)))
            raise ValueError(f"no field {field!r} for prompt_format; the row has {known}")
    try:
        text = _FILLED.vformat(config.prompt_format, (), row)
    except KeyError as error:
        raise ValueError(f"prompt_format does not fit the row: no {error} in it") from error
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        raise ValueError(f"prompt_format does not fit the row: {error}") from error
    if not text.strip():
        raise ValueError(f"{_MADE} is empty")
    return (user(text),)


@cache
def fields_in(prompt_format: str) -> tuple[str, ...]:
    """Name the fields of a row that a format has places for, each once.

    Raises ValueError for what is no format, and for a place without a name.
    """
    try:
        places = list(Formatter().parse(prompt_format))
    except ValueError as error:
        raise ValueError(f"prompt_format is no format: {error}") from error
    names: list[str] = []
    for _, place, spec, _ in places:
        if place is not None:
            name = place.partition(".")[0].partition("[")[0]
            if not name or name.isdigit():
                raise ValueError(f"prompt_format: the place {{{place}}} names no field")
            names += [name, *fields_in(spec or "")]
    return tuple(dict.fromkeys(names))


class _Filled(Formatter):
    """Fill in a format, and refuse a null, which Python would write as None."""

    def get_field(
        self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """Return what stands in a place, and its field. Raises ValueError for null."""
        value, first = super().get_field(field_name, args, kwargs)
        if value is None:
            raise ValueError(f"field {field_name!r} is null")
        return value, first


_FILLED = _Filled()
_MADE = "the prompt that prompt_format makes"


def _reference(row: Mapping[str, Any], field: str) -> str:
    """Return the reference as a text; in JSON a final answer is often a number."""
    value = _field(row, field)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"field {field!r} is {value}, which is no final answer")
        # All digits, without an exponent.
        return format(Decimal(str(value)), "f")
    return _text(row, field)


def _text(row: Mapping[str, Any], field: str, *, may_be_empty: bool = False) -> str:
    value = _field(row, field)
    if not isinstance(value, str) or not (may_be_empty or value.strip()):
        what = "empty" if isinstance(value, str) else kind_of(value)
        raise ValueError(f"field {field!r} is {what}, not a text")
    return value


def _tests(row: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = _field(row, field)
    tests = [value] if isinstance(value, str) else value
    if not isinstance(tests, list) or not tests:
        raise ValueError(f"field {field!r} holds no tests; it must be a list of texts, or a text")
    if not all(isinstance(test, str) and test.strip() for test in tests):
        raise ValueError(f"field {field!r} holds a test that is no text, or an empty one")
    return tuple(tests)


def _check_storable(what: str, texts: Iterable[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{what} holds half a surrogate pair at character {error.start}"
            ) from error


def _conversation(row: Mapping[str, Any], field: str) -> Conversation:
    value = _field(row, field)
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"field {field!r} is empty")
        return (user(value),)
    if not isinstance(value, list) or not value:
        what = "an empty list" if value == [] else kind_of(value)
        raise ValueError(f"field {field!r} is {what}, neither text nor messages")
    try:
        conversation = from_dicts(value)
        _check_turns(conversation)
    except ValueError as error:
        raise ValueError(f"field {field!r}, {error}") from error
    return conversation


def _check_turns(conversation: Conversation) -> None:
    """Raise ValueError for an order of turns, or an empty turn, that cannot be used.

    Chat templates refuse other orders, or render them silently as something else.
    """
    expected: tuple[str, ...] = ("system", "user")
    for turn, message in enumerate(conversation):
        if message.role not in expected:
            raise ValueError(
                f"turn {turn} is the {message.role}'s, expected the {' or the '.join(expected)}'s"
            )
        if not message.content.strip():
            raise ValueError(f"turn {turn}: content is empty")
        expected = ("assistant",) if message.role == "user" else ("user",)


def _answer(row: Mapping[str, Any], field: str) -> str:
    value = _field(row, field)
    # In a dialogue the last turn is the answer, where it is the assistant's.
    if isinstance(value, list) and value:
        last = _conversation(row, field)[-1]
        value = last.content if last.role == "assistant" else None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"field {field!r} holds no answer text")
    return value


def _field(row: Mapping[str, Any], field: str) -> Any:
    if not isinstance(row, Mapping):
        raise ValueError(f"the row is {kind_of(row)}, not an object with fields")
    if field not in row:
        raise ValueError(f"no field {field!r}; the row has {', '.join(sorted(row)) or 'no fields'}")
    return row[field]
