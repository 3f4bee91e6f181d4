"""When a step with engines has stood still too long; starting engines is not standing still."""

from collections.abc import Collection

from avr.config import LimitsConfig


class Patience:
    """Two clocks: of starts, while a role has no engine, and of progress, while every role has one.

    A first start downloads tens of gigabytes, computes reference rewards, loads and compiles. Times
    are seconds of the caller's clock; the start clock runs from the beginning.
    """

    def __init__(self, limits: LimitsConfig, now: float):
        self._limits = limits
        self._without: tuple[str, ...] = ()
        self._without_since: float | None = now
        self._moved = now

    @property
    def starting(self) -> bool:
        """Whether it is the start clock that runs."""
        return self._without_since is not None

    def advance(self, now: float) -> None:
        """Note that something has moved on."""
        self._moved = now

    def look(self, without: Collection[str], now: float) -> None:
        """Note which roles have no engine now."""
        self._without = tuple(without)
        if without:
            self._without_since = now if self._without_since is None else self._without_since
        elif self._without_since is not None:
            self._without_since, self._moved = None, now

    def still_for(self, now: float) -> float | None:
        """Return the seconds without progress where they are too many, else None."""
        waited = now - self._moved
        too_long = not self.starting and waited > self._limits.no_progress_timeout_s
        return waited if too_long else None

    def without_for(self, now: float) -> tuple[tuple[str, ...], float] | None:
        """Return the roles without an engine and for how many seconds, where these are too many."""
        if self._without_since is None or not self._without:
            return None
        waited = now - self._without_since
        return (self._without, waited) if waited > self._limits.start_timeout_s else None
