"""Decide when a step with engines has stood still too long, not counting starts of engines."""

from collections.abc import Collection

from avr.config.roles import LimitsConfig


class Patience:
    """Keep two clocks: of starts, while a role has no engine; of progress, while all have one.

    A first start downloads tens of gigabytes, computes reference rewards, loads and compiles. Times
    are seconds of the caller's clock. Each role has a start clock, from the beginning.
    """

    def __init__(self, limits: LimitsConfig, now: float):
        self._limits = limits
        self._began = self._moved = now
        # Since when each role has been without an engine; None until `look` is first called.
        self._without: dict[str, float] | None = None

    @property
    def starting(self) -> bool:
        """Say whether the start clock is the one that runs."""
        return self._without is None or bool(self._without)

    def advance(self, now: float) -> None:
        """Note that something has moved on."""
        self._moved = now

    def look(self, without: Collection[str], now: float) -> None:
        """Note which roles have no engine now."""
        before, since = (self._without, now) if self._without is not None else ({}, self._began)
        # Progress counts from when the last role got its engine: nothing could advance before.
        if self.starting and not without:
            self._moved = now
        self._without = {role: before.get(role, since) for role in without}

    def still_for(self, now: float) -> float | None:
        """Return the seconds without progress where they are too many, else None."""
        waited = now - self._moved
        too_long = not self.starting and waited > self._limits.no_progress_timeout_s
        return waited if too_long else None

    def without_for(self, now: float) -> tuple[tuple[str, ...], float] | None:
        """Return the roles without an engine for too long, and their longest wait; else None."""
        waited = {role: now - since for role, since in (self._without or {}).items()}
        late = {role: s for role, s in waited.items() if s > self._limits.start_timeout_s}
        return (tuple(late), max(late.values())) if late else None
