"""What Ray Data is told before it streams, in one place: half of it is not in its handbook."""

import os
from typing import Any

import ray
from ray.data._internal.execution.backpressure_policy import DownstreamCapacityBackpressurePolicy
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.planner import plan_udf_map_op

from avr.config import GrowthConfig


class ForgetBlocks(ExecutionCallback):
    """Drop what Ray Data notes down of each block, for a report that nobody asks for.

    It is about ten kilobytes a block in the driver, through all operators: a hundred megabytes for
    a million prompts.
    """

    def on_execution_step(self, executor: Any) -> None:
        """Called by the executor in every turn of its loop."""
        for operator in executor._topology or ():
            notes = getattr(operator, "_output_blocks_stats", None)
            if notes:
                notes.clear()


def tell_ray_data(config: GrowthConfig, rows: int) -> None:
    """Set up the process for streams of blocks of so many rows."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = config.no_progress_timeout_s
    context.max_consecutive_actor_init_deaths = config.max_engine_deaths
    context.custom_execution_callback_classes = [ForgetBlocks]
    context.memory_usage_poll_interval_s = None  # a thread per block, for the same report
    # Of an asynchronous operator's block it has 16 rows in hand, whatever the actor could take.
    plan_udf_map_op.DEFAULT_ASYNC_ROW_UDF_MAX_CONCURRENCY = rows
    # Shares of what the replicas of a pool may hold, not of what they have in flight, which is half
    # of it: so half of Ray Data's own values.
    context.actor_pool_util_upscaling_threshold = 0.875
    context.actor_pool_util_downscaling_threshold = 0.25
    # Ray Data asks for 32 actors to read footers, a process and seconds of CPU time each, and there
    # is one file. It reads this in the driver's environment.
    os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")
    # It holds the reader back by what the engines have in hand, but only once half of the object
    # store is full. Until then prompts pile up, in the driver, as small blocks are kept there.
    DownstreamCapacityBackpressurePolicy.OBJECT_STORE_BUDGET_UTIL_THRESHOLD = 0.0
