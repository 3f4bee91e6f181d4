"""Count the device-hours of a run, and end the run where its budget is spent."""

import json
import threading
import time
from collections.abc import Callable

from avr.config.run import BudgetConfig
from avr.plan.resources import StepPlan, devices
from avr.storage import Location, is_remote, write_text

_COUNT_EVERY_S = 10.0


class BudgetSpent(RuntimeError):
    """Signal that a run has taken all its device-hours; what is committed is kept."""


class Meter:
    """Count the device-hours of one step at a time, in a file, over all jobs of a run.

    A pool counts at its most replicas, so that growing pools never overrun a budget. A replica
    without GPUs counts as one device. Time spent waiting for a cluster does not count.
    """

    def __init__(
        self, file: Location, budget: BudgetConfig, clock: Callable[[], float] = time.monotonic
    ):
        self._file = file
        self._most = budget.max_device_hours
        self._clock = clock
        self._hours: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
        self._step = ""
        self._devices = 0.0
        self._counted = clock()
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raise BudgetSpent where nothing is left to spend."""
        spent = sum(self._hours.values())
        if self._most is not None and spent >= self._most:
            raise BudgetSpent(
                f"{spent:.3g} device-hours are spent, and budget.max_device_hours is "
                f"{self._most:g}. What is committed is kept; the same command with a larger budget "
                "continues"
            )

    def start(self, plan: StepPlan) -> None:
        """Begin to count the devices of a step, which are there now.

        They count from now on, even if the job is killed.
        """
        self._step = plan.step
        self._devices = devices(plan)
        self._counted = self._clock()
        self._stopped.clear()
        # The thread writes the count down every few seconds, for a job that is killed.
        threading.Thread(target=self._keep_counting, daemon=True).start()

    def tick(self) -> None:
        """Count up to now; raise BudgetSpent where nothing is left.

        Call it when something was committed: that is a good moment to stop.
        """
        self._count()
        self.check()

    def stop(self) -> None:
        """Stop counting: the step has ended, well or not."""
        self._stopped.set()
        self._count()
        self._devices = 0.0

    def _keep_counting(self) -> None:
        while not self._stopped.wait(_COUNT_EVERY_S):
            self._count()

    def _count(self) -> None:
        # Both the thread and the step count.
        with self._lock:
            now = self._clock()
            hours = (now - self._counted) * self._devices / 3600
            self._counted = now
            if hours:
                self._hours[self._step] = self._hours.get(self._step, 0.0) + hours
                self._write()

    def _write(self) -> None:
        try:
            write_text(self._file, json.dumps(self._hours, indent=1))
        except Exception:
            # A store may be out of reach for a moment: the next count writes all of it.
            if not is_remote(self._file):
                raise
