"""Try one test: load the program in a new process, evaluate the test, say how it went."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself imports enum, 3 ms
import builtins
import os
import select
import time

from avr.sandbox.inside.limits import Limits
from avr.sandbox.inside.processes import Processes
from avr.sandbox.inside.remote import NO_VALUE, EndedError, Remote, Session
from avr.sandbox.inside.shown import Shown
from avr.sandbox.inside.wire import ClosedError, OversizedError, receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

# Result, call, got, expected, message: the fields of `avr.sandbox.verdict.TestOutcome`.
Outcome = tuple[str, str, str, str, str]
Test = tuple[str, tuple[str, ...], dict[str, tuple[str, ...]]]  # see `avr.sandbox.prepare.Prepared`

_TOO_LATE, _GONE = "too late", "gone"
_FRAME = 2**10  # bytes around the encoded result of a call
_MOST_MESSAGE = 1000  # characters


def tried(
    processes: Processes, prelude: str, program: str, test: Test, limits: Limits
) -> tuple[Outcome, bool]:
    """Try a test: its outcome, and whether the program was loaded."""
    trial = _Trial(processes, limits)
    try:
        loaded = trial.attempt(lambda: trial.session.load(prelude, program))
        passed = loaded and trial.attempt(lambda: trial.evaluate(*test))
    finally:
        trial.close()
    return ("passed", "", "", "", "") if passed else trial.outcome(), loaded


class _Trial:
    def __init__(self, processes: Processes, limits: Limits):
        self._processes, self._limits = processes, limits
        self._deadline = time.monotonic() + limits.wall_s
        self._channel = processes.begin()
        self._shown = Shown()
        self._error: BaseException | None = None
        self._status, self._seconds = 0, 0.0
        self.session = Session(self._ask)

    def attempt(self, work: Callable[[], None]) -> bool:
        """Do some work within the time of the test; whether it went to its end."""
        try:  # noqa: SIM105 (contextlib takes 3 ms)
            self._timed(work)
        except EndedError:
            pass  # the alarm came just as the work ended
        # A test may have caught what ended the session, and have gone on.
        return self._error is None and not self.session.ended

    def _timed(self, work: Callable[[], None]) -> None:
        _signal.signal(_signal.SIGALRM, self._on_alarm)
        _signal.setitimer(_signal.ITIMER_REAL, max(self._deadline - time.monotonic(), 0.001))
        try:
            work()
        except BaseException as error:
            self._error = error
        finally:
            _signal.setitimer(_signal.ITIMER_REAL, 0)

    def evaluate(
        self, source: str, names: tuple[str, ...], modules: dict[str, tuple[str, ...]]
    ) -> None:
        """Run a test here; what it means by the program's names is asked for."""
        known = _Names(self.session, set(names))
        known["__name__"], known["__shown__"] = "test", self._shown
        for name, used in modules.items():
            module = __import__(name)
            if all(hasattr(module, each) for each in used):
                known[name] = module
        exec(compile(source, "<test>", "exec", dont_inherit=True), known)

    def close(self) -> None:
        """End the processes of the test."""
        self.session.closed = True
        os.close(self._channel)
        self._status, self._seconds = self._processes.end()

    def outcome(self) -> Outcome:
        """Say why the test did not pass."""
        if self.session.ended == _TOO_LATE:
            return "timeout", "", "", "", f"no result after {self._limits.wall_s:g} s"
        if self.session.ended == _GONE:
            return self._of_a_process_that_ended()
        if self.session.ended:
            return "killed", "", "", "", self.session.ended
        raised = self.session.raised
        if raised and raised[0] is self._error:
            name, message, line, source = raised[1]
            where = f" (line {line}: {source})" if line else ""
            return "error", "", "", "", f"{name}: {message}{where}"[:_MOST_MESSAGE]
        if isinstance(self._error, AssertionError):
            return "failed", *self._shown.texts(), str(self._error)[:_MOST_MESSAGE]
        said = f"the test raised {type(self._error).__name__}: {self._error}"
        return "error", "", "", "", said[:_MOST_MESSAGE]

    def _of_a_process_that_ended(self) -> Outcome:
        code = os.waitstatus_to_exitcode(self._status)
        # A SIGKILL after so long is that of who ignored the first signal; ticks are counted for
        # the limit, which may be far more than the time itself where others wait for the core.
        used_up = code == -_signal.SIGKILL and self._seconds >= 0.5 * self._limits.cpu_s
        if used_up or code == -_signal.SIGXCPU:
            return "timeout", "", "", "", f"no result after {self._limits.cpu_s} s of CPU time"
        if code == -_signal.SIGKILL:
            said = "closed its channel, or was killed"
        elif code < 0:
            said = f"ended by signal {-code} ({_signal.strsignal(-code)})"
        else:
            said = f"ended itself with status {code} before it gave a result"
        return "killed", "", "", "", said

    def _on_alarm(self, *_: object) -> NoReturn:
        self.session.end(_TOO_LATE)

    def _ask(self, request: bytes) -> bytes:
        try:
            send(self._channel, request, lambda fd: self._wait(fd, select.POLLOUT))
            most = self._limits.output_bytes + _FRAME
            return receive(self._channel, most, lambda fd: self._wait(fd, select.POLLIN))
        except ClosedError:
            self.session.end(_GONE)
        except OversizedError:
            self.session.end(NO_VALUE)

    def _wait(self, fd: int, event: int) -> None:
        if not self._processes.ready(fd, event, self._deadline):
            self.session.end(_TOO_LATE)


class _Names(dict[str, "Any"]):
    """Hold the globals of a test; a name of the program is looked up there each time.

    Values are not kept: a program may change what a name means. Builtins that the program has
    defined itself are asked for only where the test names nothing else of the program's.
    """

    def __init__(self, session: Session, names: set[str]):
        super().__init__()
        self._session, self._asked = session, names

    def __missing__(self, name: str) -> Any:
        if name not in self._asked:
            raise KeyError(name)
        try:
            value = self._session.named(name)
        except NameError:
            if hasattr(builtins, name):
                raise KeyError(name) from None
            raise
        if type(value) is Remote:
            self[name] = value
        return value
