"""Device-hours: counted over jobs, by step, and the end of a run that has spent enough."""

import json

import pytest

from avr.config.run import BudgetConfig
from avr.plan.resources import Pool, StepPlan
from avr.run.budget import BudgetSpent, Meter, devices

GROW = StepPlan("grow", (Pool("a", "m", 1, 3, 1.0, 2.0), Pool("b", "m", 1, 2, 1.0, 0.0)), True)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def meter(tmp_path, clock, most=None):
    return Meter(tmp_path / "spent.json", BudgetConfig(max_device_hours=most), clock)


def test_a_pool_counts_its_most_gpus_and_one_where_it_has_none():
    assert devices(GROW) == 3 * 2 + 2
    assert devices(StepPlan("grow", GROW.pools, False)) == 6


def test_hours_add_up_over_jobs_and_only_while_a_step_runs(tmp_path):
    clock = Clock()
    first = meter(tmp_path, clock)
    clock.now += 3600
    first.start(GROW)
    clock.now += 1800
    first.tick()
    clock.now += 900
    first.stop()
    clock.now += 3600
    second = meter(tmp_path, clock)
    second.start(GROW)
    clock.now += 900
    second.stop()
    assert json.loads((tmp_path / "spent.json").read_text()) == {"grow": 8.0}


def test_what_a_killed_job_spent_is_known_to_the_next(tmp_path):
    clock = Clock()
    killed = meter(tmp_path, clock)
    killed.start(GROW)
    clock.now += 3600
    killed.tick()
    with pytest.raises(BudgetSpent, match="8 device-hours"):
        meter(tmp_path, clock, most=8.0).check()


def test_budget_ends_a_run_at_a_commit_and_a_larger_one_goes_on(tmp_path):
    clock = Clock()
    run = meter(tmp_path, clock, most=4.0)
    run.start(GROW)
    clock.now += 1799
    run.tick()
    clock.now += 1
    with pytest.raises(BudgetSpent, match=r"4 device-hours are spent, .* is 4\."):
        run.tick()
    run.stop()
    with pytest.raises(BudgetSpent):
        meter(tmp_path, clock, most=4.0).check()
    meter(tmp_path, clock, most=5.0).check()
