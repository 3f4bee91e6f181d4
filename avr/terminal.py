"""Write to the screen: the one console, lines inside a step, figures, and a step's pace."""

import math
import sys
from collections.abc import Collection, Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

# A log file has no width of its own; tables need one that they fit into.
CONSOLE = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def indented(line: str) -> None:
    """Print a line about what happens inside a step."""
    CONSOLE.print(f"  {line}", markup=False)


def table(
    title: str, columns: Iterable[str], left: Collection[str], *, no_wrap: bool = False, **more: Any
) -> Table:
    """Begin a table without rows; its columns are right-aligned but for those in `left`."""
    begun = Table(title=title, title_justify="left", box=box.SIMPLE, **more)
    for column in columns:
        begun.add_column(column, justify="left" if column in left else "right", no_wrap=no_wrap)
    return begun


def number(value: float | None, form: str) -> str:
    """Format a figure; a missing one is a dash."""
    return "-" if value is None else f"{value:{form}}"


class Pace:
    """Measure the items per second since the work has begun; `before` were done by then."""

    def __init__(self, before: int):
        self._before, self._begun = before, math.inf

    def look(self, working: bool, now: float) -> None:
        """Note the beginning of the work: the first `now` (a clock's seconds) while `working`."""
        if working:
            self._begun = min(self._begun, now)

    def words(self, num_done: int, rest: int, now: float) -> str:
        """Describe the pace and the time that the rest takes; "" before the first item is done.

        It is "" in the first second too: 1 item in 0.1 ms would be 10,000 a second.
        """
        items, seconds = num_done - self._before, now - self._begun
        if items <= 0 or seconds < 1:
            return ""
        rate = items / seconds
        if not rest:
            return f", {_said(rate)}"
        left = rest / rate
        words = f"{math.ceil(left)} s" if left < 120 else f"{math.ceil(left / 60)} min"
        return f", {_said(rate)}, {words} left"


def _said(rate: float) -> str:
    return f"{_rounded(rate)} a second" if rate >= 1 else f"one in {_rounded(1 / rate)} s"


def _rounded(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"
