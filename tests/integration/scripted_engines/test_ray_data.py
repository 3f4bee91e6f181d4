"""What Ray Data is told holds in the version that is installed: not all of it is documented."""

import asyncio
import random
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.data._internal.execution.backpressure_policy import DownstreamCapacityBackpressurePolicy
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.execution.streaming_executor_state import IdleDetector
from ray.data._internal.planner import plan_udf_map_op
from ray.data.exceptions import ExecutionTimeoutError
from scripted_engine import ROLE, SHAPE, TEMPLATES, ScriptedEngine
from scripted_growth import planted

from avr.config.roles import GrowthConfig
from avr.dataflow.grow import grow
from avr.dataflow.operators import Operator
from avr.dataflow.tuning import EndStalled, tell_ray_data
from avr.hosting.cluster import place
from avr.hosting.host import Hosted
from avr.hosting.witness import witness_beside_driver
from avr.plan.resources import StepPlan, engines

pytestmark = [
    pytest.mark.integration,
    pytest.mark.long,
    pytest.mark.usefixtures("as_it_comes"),
]
NUM_BLOCKS = 60
IN_FLIGHT = plan_udf_map_op.DEFAULT_ASYNC_ROW_UDF_MAX_CONCURRENCY  # before any growth
FOUND = []


@pytest.fixture
def as_it_comes(ray_cluster, monkeypatch):
    """Tests here begin with the settings that Ray Data comes with; the others find theirs again."""
    data = ray_cluster.data
    monkeypatch.setattr(plan_udf_map_op, "DEFAULT_ASYNC_ROW_UDF_MAX_CONCURRENCY", IN_FLIGHT)
    before = data.DataContext.get_current()
    data.DataContext._set_current(data.DataContext())  # growths of other tests have set up theirs
    yield
    data.DataContext._set_current(before)


class Left(ExecutionCallback):
    """Finds how many blocks' statistics the operators hold when a stream has come to its end."""

    def after_execution_succeeds(self, executor):
        FOUND.extend(
            len(operator._output_blocks_stats)
            for operator in executor._topology
            if hasattr(operator, "_output_blocks_stats")
        )


def streamed(ray, callbacks):
    context = ray.data.DataContext.get_current()
    context.custom_execution_callback_classes = [*callbacks, Left]
    FOUND.clear()
    rows = ray.data.range(NUM_BLOCKS, override_num_blocks=NUM_BLOCKS).map(lambda row: row)
    assert sum(1 for _ in rows.iter_rows()) == NUM_BLOCKS
    return list(FOUND)


def test_nothing_is_kept_of_blocks_that_are_through(ray_cluster):
    assert max(streamed(ray_cluster, [])) >= NUM_BLOCKS  # or there is nothing to forget any more
    tell_ray_data(GrowthConfig(), 8, None)
    forget, _ = ray_cluster.data.DataContext.get_current().custom_execution_callback_classes
    assert max(streamed(ray_cluster, [forget])) < NUM_BLOCKS / 4


class StartsWhenTold:
    def __init__(self, go):
        while not go.exists():
            time.sleep(0.1)

    def __call__(self, row):
        return {"id": row["id"]}


def waiting_in(executor):
    """Bytes of blocks that were read and wait for actors."""
    actors = next(op for op in executor._topology if isinstance(op, ActorPoolMapOperator))
    (reader,) = actors.input_dependencies
    return executor._resource_manager.get_mem_op_outputs(reader)


class Waiting(ExecutionCallback):
    def on_execution_step(self, executor):
        FOUND.append(waiting_in(executor))


class Ahead(ExecutionCallback):
    """Lets actors start once `enough` waits, or 5 s after anything did; finds how much did.

    Where `enough` never waits it gives up after 90 s.
    """

    def __init__(self, go, enough):
        self.go, self.enough, self.most = go, enough, 0
        self.until = time.monotonic() + 90.0

    def on_execution_step(self, executor):
        waiting = waiting_in(executor)
        if waiting and not self.most and not self.enough:
            self.until = time.monotonic() + 5.0
        self.most = max(self.most, waiting)
        done = time.monotonic() > self.until or (self.enough and waiting > self.enough)
        if done and not self.go.exists():
            self.go.touch()
            FOUND.append(self.most)


@pytest.fixture
def rows_file(tmp_path):
    """20 MB of rows."""
    file = tmp_path / "rows.parquet"
    noise = [{"id": n, "text": random.Random(n).randbytes(10_000)} for n in range(2000)]
    pq.write_table(pa.Table.from_pylist(noise), file)
    return file


def mapped(ray, file, go, callbacks):
    ray.data.DataContext.get_current().custom_execution_callback_classes = callbacks
    rows = ray.data.read_parquet(str(file)).repartition(target_num_rows_per_block=8)
    pool = ray.data.ActorPoolStrategy(size=1)
    return rows.map(StartsWhenTold, fn_constructor_args=(go,), compute=pool, num_cpus=0.5)


def read_ahead(ray, file, enough):
    """How many bytes are read while an actor starts."""
    go = file.with_suffix(".go")
    go.unlink(missing_ok=True)
    FOUND.clear()
    rows = mapped(ray, file, go, [partial(Ahead, go, enough)])
    assert sum(1 for _ in rows.iter_rows()) == 2000
    return FOUND[0]


def test_no_more_is_read_than_engines_that_start_will_want_at_first(ray_cluster, rows_file):
    assert read_ahead(ray_cluster, rows_file, 10e6) > 10e6  # or there is nothing to hold any more
    tell_ray_data(GrowthConfig(), 8, None)
    assert read_ahead(ray_cluster, rows_file, None) < 3e6


def test_a_stream_ends_where_engines_hand_nothing_on_though_more_is_read(
    ray_cluster, rows_file, monkeypatch
):
    # A held reader gets a block through in each of these.
    monkeypatch.setattr(IdleDetector, "DETECTION_INTERVAL_S", 0.2)
    tell_ray_data(GrowthConfig(no_progress_timeout_s=12.0), 8, witness_beside_driver())
    told = ray_cluster.data.DataContext.get_current().custom_execution_callback_classes
    FOUND.clear()
    rows = mapped(ray_cluster, rows_file, rows_file.with_suffix(".never"), [Waiting, *told])
    ended = r"no tree advanced in \d+ s .*; blocks in hand: Map\(StartsWhenTold\) 0 \(0 done\)"
    with pytest.raises(ExecutionTimeoutError, match=ended):
        list(rows.iter_rows())
    assert len(set(FOUND)) > 3  # block by block, to the end


def stalled_after(*turns):
    """The second at which a stream is ended whose pool has handed so much on by so many seconds."""
    witness, now = witness_beside_driver(), [0.0]
    limits = GrowthConfig(no_progress_timeout_s=10.0)
    ended = EndStalled(limits, witness, (), clock=lambda: now[0])
    pool = SimpleNamespace(
        name="pool",
        output_dependencies=[],
        metrics=SimpleNamespace(num_outputs_taken=0),
        num_active_tasks=lambda: 1,
        has_completed=lambda: False,
    )
    reader = SimpleNamespace(
        output_dependencies=[pool], metrics=SimpleNamespace(num_outputs_taken=0)
    )
    for second in range(60):
        now[0] = float(second)
        reader.metrics.num_outputs_taken += 1
        for at, blocks, trees in turns:
            if at == second:
                pool.metrics.num_outputs_taken += blocks
                ray.get(witness.advanced.remote("pool", trees))
        try:
            ended.on_execution_step(SimpleNamespace(_topology=[reader, pool]))
        except ExecutionTimeoutError:
            return second
    return None


def test_a_stream_lives_as_long_as_blocks_leave_or_trees_advance(ray_cluster):
    assert stalled_after() == 11
    assert stalled_after((8, 1, 0)) == 19
    assert stalled_after(*((second, 1, 0) for second in range(8, 60, 8))) is None
    # Of a large block trees come through one by one: they are asked for when the time is over.
    assert stalled_after((3, 0, 5)) == 22
    assert stalled_after(*((second, 0, 1) for second in range(8, 60, 8))) is None


class CountingScriptedEngine(ScriptedEngine):
    """Writes down how many requests it has had in hand at a time."""

    now = most = 0

    async def generate(self, *asked, **more):
        self.now += 1
        if self.now > self.most:
            self.most = self.now
            Path(self._behaviour["MOST"]).write_text(str(self.most))
        await asyncio.sleep(1.0)
        self.now -= 1
        return await super().generate(*asked, **more)


# Of a large block Ray Data by itself has 16 rows in hand; of small ones there are more than 32.
@pytest.mark.parametrize("rows", [8, 160])
def test_an_engine_has_the_rows_in_flight_that_it_should_however_large_the_blocks(
    ray_cluster, tmp_path, rows
):
    env = {"MOST": str(tmp_path / "most")}
    role = replace(ROLE, max_rows_per_replica=32, env=env)
    hosted = Hosted("respond", "policy", role, 0, tmp_path, 1, make_engine=CountingScriptedEngine)
    operators = [Operator("respond", hosted, TEMPLATES, SHAPE)]
    grown = grow(planted(160), operators, GrowthConfig(rows_per_block=rows), tmp_path)
    assert grown.num_trees == 160
    assert (tmp_path / "most").read_text() == "32"


def test_a_pool_grows_while_there_is_work_for_more_engines(ray_cluster, tmp_path):
    role = replace(ROLE, max_rows_per_replica=8, max_replicas=2, env={"LATENCY": "1.0"})
    hosted = Hosted("respond", "policy", role, 0, tmp_path, 1, make_engine=ScriptedEngine)
    operators = [Operator("respond", hosted, TEMPLATES, SHAPE)]
    grow(planted(160), operators, GrowthConfig(rows_per_block=4), tmp_path)
    assert len(list((tmp_path / "logs").glob("respond-policy-*.log"))) == 2


def test_engines_share_a_gpu(ray_cluster, tmp_path):
    role = replace(ROLE, use_gpu=True, gpu_share=0.3, min_replicas=3, max_replicas=3)
    hosted = Hosted("respond", "policy", role, 0, tmp_path, 1, make_engine=ScriptedEngine)
    plan = StepPlan("grow", (engines("policy", role, 1),), True, reserve=0.0)

    @contextmanager
    def placed():
        place(plan, 45.0, print)
        yield

    operators = [Operator("respond", hosted, TEMPLATES, SHAPE)]
    config = GrowthConfig(rows_per_block=4)
    assert grow(planted(24), operators, config, tmp_path, placed).num_trees == 24
    assert len(list((tmp_path / "logs").glob("respond-policy-*.log"))) == 3
    assert not (tmp_path / "pending.parquet").exists()


def test_a_setting_that_this_version_does_not_have_is_an_error(ray_cluster, monkeypatch):
    monkeypatch.delattr(plan_udf_map_op, "DEFAULT_ASYNC_ROW_UDF_MAX_CONCURRENCY")
    with pytest.raises(AttributeError, match="has no DEFAULT_ASYNC_ROW_UDF_MAX_CONCURRENCY"):
        tell_ray_data(GrowthConfig(), 8, None)


def test_a_policy_that_this_version_does_not_have_is_an_error(ray_cluster, monkeypatch):
    monkeypatch.delattr(DownstreamCapacityBackpressurePolicy, "_get_output_pressure")
    with pytest.raises(AttributeError, match="has no _get_output_pressure"):
        tell_ray_data(GrowthConfig(), 8, None)
