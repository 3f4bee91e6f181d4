"""Decide when a checkpoint is due: by the clock, but never so often that saving takes most time.

Steps are a bad measure of the work that a kill may cost: fifty steps of an 8B model on eight GPUs
are two minutes of computing, and a checkpoint is some 100 GB. The module is free of torch and
transformers.
"""

import time
from collections.abc import Callable

from avr.config.training import TrainingConfig

# A checkpoint that took a minute to write is followed by at least ten minutes of training.
LEAST_RATIO = 10


def saves_by_time(config: TrainingConfig) -> bool:
    """Tell whether `checkpoint_every_s` decides; it does unless TRL's own settings are given."""
    return not {"save_steps", "save_strategy"} & set(config.trl)


def is_due(since_s: float, took_s: float, every_s: float) -> bool:
    """Tell whether to save, `since_s` after the last checkpoint, which took `took_s` to write."""
    return since_s >= max(every_s, LEAST_RATIO * took_s)


class Timetable:
    """Time the saves of one training, by a clock in seconds; rank 0's timetable decides."""

    def __init__(self, every_s: float, clock: Callable[[], float] = time.monotonic):
        self._every_s, self._clock = every_s, clock
        self._ended, self._took_s = clock(), 0.0
        self._began: float | None = None

    def begin_training(self) -> None:
        """Start to count the time; a training that goes on after a kill counts anew."""
        self._ended = self._clock()

    def due(self) -> bool:
        """Tell whether to save now."""
        return is_due(self._clock() - self._ended, self._took_s, self._every_s)

    def begin_save(self) -> None:
        """Note that writing begins."""
        self._began = self._clock()

    def end_save(self) -> None:
        """Note that a checkpoint is whole, wherever it is kept."""
        self._ended = self._clock()
        if self._began is not None:
            self._took_s, self._began = self._ended - self._began, None
