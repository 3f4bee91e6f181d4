"""How quickly items come to be committed, for a line of progress."""

import math


class Pace:
    """From the first commit on, which is left out: what led to it began before."""

    def __init__(self, before: int):
        self._begun: tuple[int, float] | None = None
        self._last = (before, 0.0)

    def look(self, num_committed: int, now: float) -> None:
        """So many are committed, at this second of any clock."""
        if num_committed > self._last[0]:
            self._begun = self._begun or (num_committed, now)
            self._last = (num_committed, now)

    def words(self, rest: int) -> str:
        """Items a second, and the minutes that the rest takes at that; nothing until it is known.

        Up to the last commit: between two of a large block's the pace would seem to fall.
        """
        if self._begun is None or self._last == self._begun:
            return ""
        items, seconds = (last - first for last, first in zip(self._last, self._begun, strict=True))
        rate = items / max(seconds, 1e-9)
        digits = 0 if rate >= 10 else 2
        return f", {rate:,.{digits}f} a second, {math.ceil(rest / rate / 60)} min left"
