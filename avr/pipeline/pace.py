"""How quickly items come to be committed, for a line of progress."""

import math


class Pace:
    """Items a second since the first engine has started."""

    def __init__(self, before: int):
        self._before, self._begun = before, math.inf

    def look(self, working: bool, now: float) -> None:
        """Whether an engine has started by this second of a clock."""
        if working:
            self._begun = min(self._begun, now)

    def words(self, num_committed: int, rest: int, now: float) -> str:
        """The pace, and how long the rest takes at it; nothing before a commit."""
        items, seconds = num_committed - self._before, now - self._begun
        if items <= 0 or seconds <= 0:
            return ""
        rate = items / seconds
        left = rest / rate
        words = f"{math.ceil(left)} s" if left < 120 else f"{math.ceil(left / 60)} min"
        return f", {_rounded(rate)} a second, {words} left"


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
