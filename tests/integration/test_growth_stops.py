"""A growth that is ended from inside: by a budget, or because a tree was committed by two."""

import pytest
from scripted_growth import grow_all, grown_in, planted, undisturbed

from avr.config import BudgetConfig
from avr.pipeline.budget import BudgetSpent, Meter
from avr.pipeline.plan import Pool, StepPlan
from avr.pipeline.tables import TREES, read_ids, read_rows, write_part

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]
NUM_TREES = 24
PLAN = StepPlan("grow", (Pool("engines", "m", 1, 1, 1.0, 0.0),), True)


def test_spent_budget_keeps_what_is_committed_and_a_larger_one_goes_on(tmp_path):
    folder = tmp_path / "run"
    meter = Meter(tmp_path / "hours.json", BudgetConfig(max_device_hours=1e-9))
    meter.start(PLAN)
    with pytest.raises(BudgetSpent, match="the same command with a larger budget continues"):
        grow_all(folder, NUM_TREES, 0.05, 0, meter.tick)
    meter.stop()
    committed = read_ids(folder / "trees")
    assert 0 < len(committed) < NUM_TREES
    more = Meter(tmp_path / "hours.json", BudgetConfig(max_device_hours=1.0))
    more.start(PLAN)
    grown = grow_all(folder, NUM_TREES, 0.05, 0, more.tick)
    more.stop()
    assert grown.num_resumed >= len(committed)
    assert grown_in(folder) == undisturbed(NUM_TREES)
    # Work that was given up commits late, in other blocks: each tree stays once all the same.
    late = list(read_rows(folder / "trees"))[:5]
    write_part(folder / "trees", "late", late, TREES)
    assert grow_all(folder, NUM_TREES, 0.05, 0).num_trees == len(planted(NUM_TREES))
    assert grown_in(folder) == undisturbed(NUM_TREES)
