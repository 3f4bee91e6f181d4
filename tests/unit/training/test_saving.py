"""When checkpoints are due, by a clock that tests set."""

from avr.config.training import TrainingConfig
from avr.training.saving import Timetable, is_due, saves_by_time


class Clock:
    """Says the time it was told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def run(self, seconds):
        self.now += seconds


def saved(every_s, step_s, save_s, num_steps):
    """The steps after which a training whose steps and saves take so long has saved."""
    clock = Clock()
    timetable = Timetable(every_s, clock)
    clock.run(5000)  # loading the model: no reason to save at the first step
    timetable.begin_training()
    steps = []
    for step in range(1, num_steps + 1):
        clock.run(step_s)
        if timetable.due():
            timetable.begin_save()
            clock.run(save_s)
            timetable.end_save()
            steps.append(step)
    return steps


def test_a_checkpoint_is_due_when_the_time_has_passed_since_the_last_one():
    assert saved(every_s=600, step_s=60, save_s=1, num_steps=30) == [10, 20, 30]
    assert saved(every_s=600, step_s=7, save_s=0, num_steps=85) == []
    assert saved(every_s=0, step_s=60, save_s=0, num_steps=3) == [1, 2, 3]


def test_training_goes_on_ten_times_as_long_as_a_checkpoint_takes():
    # Of 180 s each: the first after 600 s of steps, each further one after 1,800.
    assert saved(every_s=600, step_s=60, save_s=180, num_steps=80) == [10, 40, 70]
    assert is_due(1800, 180, 600) and not is_due(1799, 180, 600)
    assert is_due(600, 60, 600) and not is_due(599, 0, 600)


def test_a_save_that_nobody_began_moves_the_clock_and_tells_nothing_of_how_long_it_took():
    clock = Clock()
    timetable = Timetable(600, clock)
    clock.run(500)
    timetable.end_save()
    clock.run(599)
    assert not timetable.due()
    clock.run(1)
    assert timetable.due()


def test_steps_decide_where_the_user_has_said_steps():
    assert saves_by_time(TrainingConfig())
    assert saves_by_time(TrainingConfig(trl={"save_total_limit": 2}))
    for trl in ({"save_steps": 50}, {"save_strategy": "epoch"}, {"save_strategy": "no"}):
        assert not saves_by_time(TrainingConfig(trl=trl))
