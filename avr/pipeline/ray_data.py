"""What Ray Data is told before it streams, in one place: half of it are undocumented settings."""

import os
from typing import Any

import ray
from ray.data._internal.execution.backpressure_policy import DownstreamCapacityBackpressurePolicy
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.planner import plan_udf_map_op

from avr.config import GrowthConfig


class ForgetBlocks(ExecutionCallback):
    """Drop the statistics of blocks that are through: they are for a report that nobody asks for.

    They take about ten kilobytes a block in the driver, through all operators: a hundred megabytes
    for a million prompts, 128 in a block.
    """

    def on_execution_step(self, executor: Any) -> None:
        """Called by the executor in every turn of its loop."""
        for operator in executor._topology:
            statistics = getattr(operator, "_output_blocks_stats", None)
            if statistics:
                statistics.clear()


def tell_ray_data(config: GrowthConfig, rows: int) -> None:
    """Set up this process for streams of blocks of at most `rows` rows.

    For the whole process, and read when a stream is planned. Raises AttributeError where this
    version of Ray Data does not have a setting.
    """
    context = ray.data.DataContext.get_current()
    _tell(context, "enable_progress_bars", False)
    _tell(context, "execution_no_progress_timeout_s", config.no_progress_timeout_s)
    _tell(context, "max_consecutive_actor_init_deaths", config.max_engine_deaths)
    _tell(context, "custom_execution_callback_classes", [ForgetBlocks])
    _tell(context, "memory_usage_poll_interval_s", None)  # a thread per block, for that report
    # Shares of the blocks that replicas hold. They hold twice those that they work on (`_pool` in
    # `dataflow.py`), all of which Ray Data takes for worked on: so half of its own values.
    _tell(context.autoscaling_config, "actor_pool_util_upscaling_threshold", 0.875)
    _tell(context.autoscaling_config, "actor_pool_util_downscaling_threshold", 0.25)
    # Of an asynchronous operator's block it has 16 rows in hand, whatever the actor could take.
    # (Ray's variable for it, as that for the next, is read on import only.)
    _tell(plan_udf_map_op, "DEFAULT_ASYNC_ROW_UDF_MAX_CONCURRENCY", rows)
    # The reader is held back by what engines have in hand, but only once half of the object store
    # is full. Until then prompts pile up, in the driver, as small blocks are kept there.
    _tell(DownstreamCapacityBackpressurePolicy, "OBJECT_STORE_BUDGET_UTIL_THRESHOLD", 0.0)
    # Ray Data asks for 32 actors to read footers, a process and seconds of CPU time each, and there
    # is one file. It reads this in the driver's environment.
    os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")


def _tell(listener: Any, name: str, value: Any) -> None:
    if not hasattr(listener, name):  # most of them would take any name without a word
        raise AttributeError(f"Ray {ray.__version__}: Ray Data has no {name} in {listener}")
    setattr(listener, name, value)
