"""Show how far a growth is: one bar per operator on a terminal, a line now and then in a log."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from avr.hosting.witness import Report
from avr.terminal import CONSOLE, Pace

_LINE_EVERY_S = 15.0
_LOOK_EVERY_S = 60.0


class Progress:
    """Display what a witness counts, until the end.

    `bars` maps an operator to (all items, items done before). `waiting` says every minute what is
    waited for, if anything.
    """

    def __init__(
        self,
        bars: dict[str, tuple[int, int]],
        witness: Any,
        items: str,
        waiting: Callable[[Report], str | None] = lambda report: None,
    ):
        self._witness = witness
        self._waiting = waiting
        self._items = items
        self._bars = Bars(
            TextColumn("  {task.description:10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=CONSOLE,
            disable=not CONSOLE.is_terminal,
        )
        self._start = {operator: before for operator, (_, before) in bars.items()}
        self._total = max(total for total, _ in bars.values())
        self._tasks = {
            name: self._bars.add_task(name, total=total, completed=before, note=_note(before))
            for name, (total, before) in {**bars, "committed": next(iter(bars.values()))}.items()
        }
        self._num_committed = next(iter(self._start.values()))
        self._pace, self._tokens, self._num_tokens = Pace(self._num_committed), Pace(0), 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def committed(self, num_items: int) -> None:
        """Count items that are now safe on disk."""
        self._num_committed += num_items
        self._bars.update(self._tasks["committed"], completed=self._num_committed)

    def __enter__(self) -> "Progress":
        """Show the bars, or the first line."""
        self._bars.start()
        if not CONSOLE.is_terminal:
            before = f"resumed {self._num_committed}/" if self._num_committed else ""
            CONSOLE.print(f"  {self._items}: {before}{self._total}")
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Leave the bars as they ended; in a log, print a last line where there was no error."""
        self._stop.set()
        # Longer than the thread may wait for an answer of the witness.
        self._thread.join(timeout=35)
        if error is None:
            # The last tallies may not have been told.
            for operator in self._start:
                self._bars.update(self._tasks[operator], completed=self._num_committed)
            if not CONSOLE.is_terminal:
                CONSOLE.print(f"  {self._words(time.monotonic())}")
        self._bars.stop()

    def _follow(self) -> None:
        told, causes = time.monotonic(), 0
        looked, ready = time.monotonic(), None
        while not self._stop.wait(1.0):
            try:
                report = ray.get(self._witness.report.remote(), timeout=30)
            except ray.exceptions.RayError:
                continue
            # In a stream that is begun again some roles have had engines before: no news.
            ready = report.ready if ready is None else ready
            begun = bool(report.ready - ready or report.advanced)
            self._pace.look(begun, time.monotonic())
            self._tokens.look(begun, time.monotonic())
            self._num_tokens = report.num_tokens
            for role in sorted(report.ready - ready):
                CONSOLE.print(f"  {role}: the first engine is ready")
            ready |= report.ready
            for operator, before in self._start.items():
                done = before + report.advanced[operator]
                self._bars.update(self._tasks[operator], completed=done)
            for cause in report.causes[causes:]:
                event = f"an engine died ({cause})"
                CONSOLE.print(f"  {event}; it is replaced and its work repeated", markup=False)
            causes = len(report.causes)
            if time.monotonic() - looked > _LOOK_EVERY_S:
                looked = time.monotonic()
                with suppress(ray.exceptions.RayError):
                    if words := self._waiting(report):
                        CONSOLE.print(f"  waiting for devices ({words})", markup=False)
            if not CONSOLE.is_terminal and time.monotonic() - told > _LINE_EVERY_S:
                told = time.monotonic()
                steps = ", ".join(
                    f"{operator} {before + report.advanced[operator]}"
                    for operator, before in self._start.items()
                )
                CONSOLE.print(f"  {steps}, {self._words(told)}")

    def _words(self, now: float) -> str:
        done, rest = self._num_committed, self._total - self._num_committed
        words = f"committed {done}/{self._total}{self._pace.words(done, rest, now)}"
        if not self._num_tokens:
            return words
        return f"{words}; {self._num_tokens:,} tokens{self._tokens.words(self._num_tokens, 0, now)}"


def _note(before: int) -> str:
    return f"resumed {before}" if before else ""
