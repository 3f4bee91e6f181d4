"""Grow trees on Ray Data: pending trees go through pools of engines into Parquet files.

A growth that is resumed leaves out the ids that are there, by an anti-join before the data set is
built. Ray Data's own row checkpoint does the same with an extra filter actor. On a small machine
that actor can wait for ever for its CPU, and the checkpoint cannot read trees back in waves. Ids
that come from content make the plain way exact.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import pyarrow as pa
import ray

from avr.config.roles import GrowthConfig, Placement
from avr.core.messages import content_id
from avr.core.tree import RefinementTree, tree_from_dict, tree_to_dict
from avr.data.schemas import TREES
from avr.data.tables import ids_of, read_rows, read_trees, write_part, write_rows
from avr.dataflow.grown import Grown, GrowthError, check_complete, ended, settle
from avr.dataflow.operators import Operator, Worker
from avr.dataflow.tuning import tell_ray_data
from avr.hosting.cluster import missing
from avr.hosting.losses import cause_of, is_loss
from avr.hosting.progress import Progress
from avr.hosting.release import wait_until_released
from avr.hosting.witness import Report, told, witness_beside_driver
from avr.plan.resources import StepPlan, engines, gpus_of, rows_per_block
from avr.storage import Location, for_arrow, path_of
from avr.terminal import CONSOLE

SEEDLINGS = pa.schema([("id", pa.string()), ("tree", pa.string())])

_MAX_LOSSES = 3


class _Lost(GrowthError):
    """Signal that a node or process was lost under work that has no fault of its own."""

    def __init__(self, cause: str, report: Report):
        super().__init__(cause)
        self.report = report


def grow(
    seedlings: Iterable[RefinementTree],
    operators: list[Operator],
    config: GrowthConfig,
    folder: Location,
    placed: Callable[[], AbstractContextManager[None]] = nullcontext,
    on_commit: Callable[[], None] = lambda: None,
) -> Grown:
    """Take each seedling through the operators, in order, into `folder/trees`.

    Trees that cannot be finished go to `folder/quarantine`, with the reason. Trees that are in
    either folder are not grown again. Engines start inside `placed()`, which waits until the
    cluster has room for them; it is entered again after a loss that has ended them. `on_commit` is
    called after each block and may end the growth by raising. Raises GrowthError when a tree got
    lost or the engines kept dying.
    """
    source = folder / "seedlings.parquet"
    num_trees = write_rows(source, map(_row, seedlings), SEEDLINGS)
    settle(folder, folder / "trees")
    there = ended(folder)
    num_resumed = len(ids_of(source) & there) if there else 0
    deaths: Counter[str] = Counter()
    rows: Callable[[], Iterator[dict[str, Any]]] = partial(read_rows, source)
    whole: Location | None = source
    for out, wave in waves(operators, config.placement, folder):
        deaths = _flow_until_done(
            rows, whole, wave, config, out, folder, num_trees, deaths, placed, on_commit
        )
        rows, whole = partial(_again, out), None
    num_grown, num_quarantined = check_complete(source, folder)
    return Grown(num_grown, num_quarantined, num_resumed, dict(deaths))


def waves(
    operators: list[Operator], placement: Placement, folder: Location
) -> list[tuple[Location, list[Operator]]]:
    """Return the folder and the operators of each wave.

    Under placement `resident` there is one wave with all operators, else one wave for each
    operator.
    """
    if placement == Placement.resident:
        return [(folder / "trees", operators)]
    *early, last = operators
    waves = [(folder / f"wave-{n}-{op.name}", [op]) for n, op in enumerate(early)]
    return [*waves, (folder / "trees", [last])]


def _flow_until_done(
    rows: Callable[[], Iterator[dict[str, Any]]],
    whole: Location | None,
    operators: list[Operator],
    config: GrowthConfig,
    out: Location,
    folder: Location,
    num_trees: int,
    deaths: Counter[str],
    placed: Callable[[], AbstractContextManager[None]],
    on_commit: Callable[[], None],
) -> Counter[str]:
    """Stream all trees that are not there yet; return the engine deaths by role.

    The deaths include `deaths`, those before. `whole` is a file of all the rows, if there is one.

    Ray repeats the work of a dead node or process, but not all of Ray Data's own work (for example,
    the actor that reads Parquet footers). After such a loss the rest is streamed again. The loss is
    raised when it has happened `_MAX_LOSSES` times in a row without a single new tree.
    """
    rest, losses = folder / "pending.parquet", 0
    ready: frozenset[str] = frozenset()
    while True:
        settle(folder, out)
        there = ended(folder) | ids_of(out)
        # A stream that begins with nothing done reads `whole` itself and writes no copy of it.
        pending, num_pending = whole, num_trees
        if pending is None or there:
            pending = rest
            num_pending = write_rows(
                rest, (row for row in rows() if row["id"] not in there), SEEDLINGS
            )
        if not num_pending:
            rest.unlink(missing_ok=True)
            return deaths
        bars = {operator.name: (num_trees, len(there)) for operator in operators}
        quarantine = folder / "quarantine"
        try:
            with placed():
                witness = witness_beside_driver(deaths, ready)
                report = _flow(
                    pending, operators, config, out, quarantine, bars, witness, on_commit
                )
                wait_until_released(report)
            rest.unlink(missing_ok=True)
            return deaths | report.deaths
        except _Lost as loss:
            lost = loss.report
            # A witness counts on from `deaths`, but one that is gone reports none: `|` of Counters
            # keeps the larger number of each role.
            deaths, ready = deaths | lost.deaths, ready | lost.ready
            losses = 0 if len(ended(folder) | ids_of(out)) > len(there) else losses + 1
            if losses == _MAX_LOSSES:
                raise
            first = str(loss).partition("\n")[0]
            CONSOLE.print(
                f"  lost a node or process ({first}); restarting with the remaining trees",
                markup=False,
            )
        # Not inside `except`: the error refers to the stream, and the stream keeps its actors.
        wait_until_released(lost)


def _flow(
    pending: Location,
    operators: list[Operator],
    config: GrowthConfig,
    out: Location,
    quarantine: Location,
    bars: dict[str, tuple[int, int]],
    witness: Any,
    on_commit: Callable[[], None],
) -> Report:
    """Stream the pending trees through the operators' pools and commit them block by block."""
    # Ray Data reads a small Parquet file as one block, and gives whole blocks to actors.
    rows = rows_per_block(config, [operator.hosted.config for operator in operators])
    tell_ray_data(config, rows, witness, [operator.hosted.role for operator in operators])
    dataset = ray.data.read_parquet(path_of(pending), **for_arrow(pending)).repartition(
        target_num_rows_per_block=rows
    )
    for operator in operators:
        dataset = dataset.map(
            Worker,
            fn_constructor_args=(operator, witness),
            compute=_pool(operator, rows),
            num_cpus=operator.hosted.config.num_cpus,
            num_gpus=gpus_of(operator.hosted.config),
        )
    dataset = dataset.map_batches(
        commit,
        batch_size=None,  # a whole block is one batch, and so one file
        batch_format="pyarrow",
        fn_kwargs={"out": out, "quarantine": quarantine},
        compute=ray.data.TaskPoolStrategy(size=_committers(operators)),
        num_cpus=0.1,
    )
    CONSOLE.print("  starting engines")
    with Progress(bars, witness, "trees", partial(_waiting, operators)) as progress:
        batches = _batches(dataset)
        try:
            while (batch := _next(batches, witness)) is not None:
                progress.committed(sum(batch["num_trees"].to_pylist()))
                on_commit()
        finally:
            # This ends the actors where the stream has not come to its end.
            batches.close()
        return told(witness)


def _waiting(operators: list[Operator], report: Report) -> str | None:
    """Say which roles have no engine's process on any node, and what they wait for, or None."""
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    there = {
        role
        for host, (role, _) in report.processes.items()
        if host[0] in alive and host not in report.gone
    }
    hosted = [op.hosted for op in operators if op.hosted.role not in there]
    if not hosted:
        return None
    pools = tuple(engines(one.role, one.config, 0) for one in hosted)
    return missing(StepPlan(hosted[0].folder.name, pools, True, reserve=0.0))


def _batches(dataset: ray.data.Dataset) -> Generator[pa.Table, None, None]:
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")


def _next(batches: Iterator[pa.Table], witness: Any) -> pa.Table | None:
    """Return the next batch, or None at the end.

    Raises _Lost or GrowthError with the worker's cause.
    """
    try:
        return next(batches, None)
    except Exception as error:  # Ray Data raises its own kinds, not only RayError
        report = told(witness)
        cause = cause_of(error, report)
        if is_loss(error):
            raise _Lost(cause, report) from error
        raise GrowthError(cause) from error


def commit(block: pa.Table, out: Location, quarantine: Location) -> pa.Table:
    """Write one block of trees; return a table of one row that holds their number.

    The number is all that goes on to the driver.
    """
    trees = [tree_from_dict(json.loads(text)) for text in block["tree"].to_pylist()]
    # The name comes from the ids in the block: a task that is retried replaces its own file.
    name = content_id("block", sorted(tree.id for tree in trees))
    for folder, part in (
        (out, [t for t in trees if not t.quarantined]),
        (quarantine, [t for t in trees if t.quarantined]),
    ):
        write_part(folder, name, [tree_to_dict(tree) for tree in part], TREES)
    return pa.table({"num_trees": [len(trees)]})


def _pool(operator: Operator, rows: int) -> ray.data.ActorPoolStrategy:
    """Build the strategy of an operator's pool: how many replicas, and how many blocks each holds.

    A replica holds two blocks. Where `max_rows_per_replica` is more than one block's rows, it holds
    twice as many blocks as it takes for those rows. `Worker` lets the rows into the engine.
    """
    calls = 2 * max(1, math.ceil(operator.hosted.config.max_rows_per_replica / rows))
    return ray.data.ActorPoolStrategy(
        min_size=operator.hosted.config.min_replicas,
        max_size=operator.hosted.config.max_replicas,
        max_concurrent_calls_per_actor=calls,
        max_tasks_in_flight_per_actor=calls,
    )


def _committers(operators: list[Operator]) -> int:
    """Return how many blocks may be written side by side.

    Without a limit Ray Data starts a process for each block that waits. Each takes seconds of CPU,
    for a write of milliseconds, and on a small machine the engines need that CPU. One writer for
    every four engines is a guess: a block is minutes of an engine's work, and seconds of writing at
    the worst.
    """
    return max(2, sum(operator.hosted.config.max_replicas for operator in operators) // 4)


def _again(folder: Location) -> Iterator[dict[str, Any]]:
    return map(_row, read_trees(folder))


def _row(tree: RefinementTree) -> dict[str, Any]:
    return {"id": tree.id, "tree": json.dumps(tree_to_dict(tree))}
