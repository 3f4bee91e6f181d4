"""A growth that is ended from inside: by a budget, its health, or a tree that two committed."""

import asyncio
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray
from scripted_engine import ROLE, SHAPE, TEMPLATES
from scripted_growth import grow_all, grown_in, planted, undisturbed

from avr.config.health import HealthConfig
from avr.config.roles import Placement
from avr.config.run import BudgetConfig
from avr.core.growth import Shape
from avr.data.schemas import TREES
from avr.data.tables import read_ids, read_rows, write_part
from avr.dataflow import grow as dataflow
from avr.dataflow.grown import GrowthError
from avr.dataflow.operators import Operator
from avr.hosting.host import Hosted
from avr.hosting.witness import Report, Tally, witness_beside_driver
from avr.plan.resources import Pool, StepPlan
from avr.run.budget import BudgetSpent, Meter
from avr.steps.health import HealthError, HealthWatch

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("ray_cluster")]
NUM_TREES = 24
PLAN = StepPlan("grow", (Pool("engines", "m", 1, 1, 1.0, 0.0),), True)


def test_spent_budget_keeps_what_is_committed_and_a_larger_one_goes_on(tmp_path, capsys):
    folder = tmp_path / "run"
    meter = Meter(tmp_path / "hours.json", BudgetConfig(max_device_hours=1e-9))
    meter.start(PLAN)
    # Slow answers: the first block must be committed, by a process that takes seconds to start,
    # long before the last one could be.
    with pytest.raises(BudgetSpent, match="the same command with a larger budget continues"):
        grow_all(folder, NUM_TREES, 3.0, 0, meter.tick)
    meter.stop()
    assert capsys.readouterr().out.count("policy: the first engine is ready") == 1
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
    assert not (folder / "pending.parquet").exists()


@pytest.mark.parametrize("placement", list(Placement), ids=lambda each: each.name)
def test_growth_whose_first_trees_are_sick_stops_and_fails_again_before_engines_start(
    tmp_path, placement
):
    folder = tmp_path / "run"
    waves = ["wave-0-respond", "wave-1-correct"] if placement == Placement.waves else []
    parts = [folder / name for name in (*waves, "trees", "quarantine")]

    def watch():
        first = (tree.id for tree in planted(8))
        return HealthWatch(
            folder, HealthConfig(), "growth.health", first, TEMPLATES, print, Shape()
        )

    looking = watch()
    with pytest.raises(HealthError, match=r"no_answer: \d+ of \d+ refinements") as stopped:
        grow_all(
            folder,
            NUM_TREES,
            1.0,
            0,
            lambda: looking.look_at_parts(parts),
            {"SCRIPT": "reviews"},
            placement,
        )
    assert len(read_ids(parts[-2])) < NUM_TREES
    with pytest.raises(HealthError) as again:
        watch().look_at_parts(parts)
    assert str(again.value) == str(stopped.value)


@pytest.mark.long
def test_engine_that_never_starts_is_started_twice_and_no_more(tmp_path):
    starts = tmp_path / "starts"
    script = {"SCRIPT": "does not start", "STARTS": str(starts)}
    with pytest.raises(GrowthError, match=r"engine did not start: .*refuses to start"):
        grow_all(tmp_path / "run", NUM_TREES, 0.05, 0, script=script)
    assert max(Counter(starts.read_text().split()).values()) == 2
    assert grow_all(tmp_path / "run", NUM_TREES, 0.05, 0).num_trees == NUM_TREES


def test_roles_without_an_engine_say_what_they_wait_for_and_others_nothing(tmp_path):
    role = replace(ROLE, use_gpu=True, engine={"tensor_parallel_size": 64})
    hosted = Hosted("correct", "corrector", role, 0, tmp_path / "grow", max_deaths=1)
    operators = [Operator("correct", hosted, TEMPLATES, SHAPE)]
    words = dataflow._waiting(operators, Report())
    assert "step grow cannot be placed: corrector needs 64 GPUs and 0.5 CPUs on one node" in words
    here = ray.get_runtime_context().get_node_id()
    started = Report(processes={(here, 1): ("corrector", [])})
    assert dataflow._waiting(operators, started) is None
    died = replace(started, gone={(here, 1)})
    assert dataflow._waiting(operators, died) == words
    lost = Report(processes={("a node that is gone", 1): ("corrector", [])})
    assert dataflow._waiting(operators, lost) == words


def test_a_tally_tells_the_last_of_what_it_counted():
    told = []
    remote = SimpleNamespace(remote=lambda operator, number: told.append(number))
    tally = Tally(SimpleNamespace(advanced=remote), "respond")

    async def count():
        for _ in range(5):
            tally.add()
        await asyncio.sleep(0.6)
        tally.add()
        await asyncio.sleep(0.6)

    asyncio.run(count())
    assert told == [5, 1]


def test_deaths_of_engines_are_counted_on_after_a_loss():
    witness = witness_beside_driver({"policy": 2})
    assert ray.get(witness.died.remote("policy", "killed", ("node", 1))) == 3
    assert ray.get(witness.report.remote()).deaths == {"policy": 3}


def test_starts_are_given_up_only_where_none_succeeded_and_none_is_under_way():
    host = ("node", 1)

    def told(*calls, ready=frozenset()):
        witness = witness_beside_driver(ready=ready)
        for name, *arguments in calls:
            ray.get(getattr(witness, name).remote("policy", *arguments))
        return ray.get(witness.starts.remote("policy"))

    twice = [("starts",), ("failed", "no memory", host)] * 2
    assert told(*twice) == "no memory"
    assert told(*twice[:2]) == told(("starts",), *twice) == ""
    assert told(*twice, ready=frozenset({"policy"})) == ""
    assert told(("starts",), ("ready", host), *twice) == ""
    assert told(*twice, ready=frozenset({"corrector"})) == "no memory"
