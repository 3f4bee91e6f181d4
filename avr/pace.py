"""How quickly items come to be done, for a line of progress."""

import math


class Pace:
    """Items a second since the work has begun; `before` were done then."""

    def __init__(self, before: int):
        self._before, self._begun = before, math.inf

    def look(self, working: bool, now: float) -> None:
        """Whether the work has begun by this second of a clock."""
        if working:
            self._begun = min(self._begun, now)

    def words(self, num_done: int, rest: int, now: float) -> str:
        """The pace, and how long the rest takes at it; nothing before the first is done.

        Nothing in the first second either: 1 item in 0.1 ms would be 10,000 a second.
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
