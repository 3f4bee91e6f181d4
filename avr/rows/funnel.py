"""Count what each rule removes, with examples: nothing is dropped without a named rule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
NUM_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """Name a condition that a candidate must meet."""

    name: str
    passes: Callable[[T], bool]


@dataclass
class Funnel:
    """Count one selection: `num_in` = sum of `removed` + `num_out`, always.

    `examples` holds the ids of the first few candidates that each rule removed.
    """

    name: str
    num_in: int = 0
    num_out: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def admit(self, item: T, item_id: str, rules: Sequence[Rule[T]]) -> bool:
        """Tell whether the item passes every rule, and count it.

        A rejected item counts for the first rule that it breaks.
        """
        self.num_in += 1
        # A rule that never removes anything is listed as well, with 0.
        for rule in rules:
            self.removed.setdefault(rule.name, 0)
        broken = next((rule.name for rule in rules if not rule.passes(item)), None)
        if broken is None:
            self.num_out += 1
            return True
        self.removed[broken] += 1
        shown = self.examples.setdefault(broken, [])
        if len(shown) < NUM_EXAMPLES:
            shown.append(item_id)
        return False

    def to_dict(self) -> dict[str, Any]:
        """Convert the counts to plain data, for summary.json."""
        return {
            "name": self.name,
            "in": self.num_in,
            "out": self.num_out,
            "removed": self.removed,
            "examples": self.examples,
        }


def unique(key: Callable[[T], object]) -> Callable[[T], bool]:
    """Make a condition that holds the first time a key is seen.

    It has a state, so each run needs a new one.
    """
    seen: set[object] = set()

    def first_time(item: T) -> bool:
        found = key(item)
        if found in seen:
            return False
        seen.add(found)
        return True

    return first_time
