"""Say in plain data what decides a step's result, derived from its fields and not by hand.

A field that somebody forgot would let a run resume under other settings without a word. So every
field counts but those that their definition marks as speed only (`avr.config.fields`), and a value
that has no stable form is an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from avr.data.prompt_sets import content_of
from avr.engines.settings import text_settings
from avr.engines.weights import weights_id

Other = Callable[[Any], Any]

# Forms that the definition of a field may name; each is made from the field's owner and its value.
_FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "weights": lambda _, model: weights_id(model),
    "texts": lambda _, engine: text_settings(engine),
    "content": lambda prompts, _: content_of(prompts),
}


def form_of(value: Any, other: Other, where: str = "") -> Any:
    """Return the plain data that stands for a value: equal where results would be equal.

    A prompt set counts by its content, wherever it lies, a model by its weights, an engine by those
    of its settings that decide texts. `other` gives the form of what only a run knows, such as an
    earlier step, and NotImplemented for all else. Raises TypeError for a value without a stable
    form; `where` is its place.
    """
    # Asked first: an earlier step is a dataclass, too, but counts by what it was made of.
    known = other(value)
    if known is not NotImplemented:
        return known
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return fields_of(value, other, where)
    if isinstance(value, Mapping):
        return {str(key): form_of(each, other, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [form_of(each, other, f"{where}[{n}]") for n, each in enumerate(value)]
    if isinstance(value, frozenset | set):
        # A set has no order of its own.
        return sorted(form_of(each, other, where) for each in value)
    raise TypeError(
        f"{where}: a {type(value).__name__} has no stable form, so nobody could say whether a run"
        " may go on with it; give the step plain data, or mark the field as speed only"
    )


def fields_of(owner: Any, other: Other, where: str) -> dict[str, Any]:
    """Return the form of each field of a dataclass that decides results. Raises TypeError."""
    # Another class does other things with the same fields. Settings, not frozen, do nothing.
    frozen = type(owner).__dataclass_params__.frozen
    found = {"made_by": type(owner).__name__} if frozen else {}
    for each in fields(owner):
        value, what = getattr(owner, each.name), each.metadata.get("decides_by", "itself")
        if what == "nothing":
            continue
        if what == "itself" or other(value) is not NotImplemented:
            found[each.name] = form_of(value, other, f"{where}.{each.name}")
        else:
            found[each.name] = _FORMS[what](owner, value)
    return found
