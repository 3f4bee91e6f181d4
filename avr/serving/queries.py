"""Work through queries in Ray tasks that call pools of engines; each is committed on its own.

A query is a row `{"id", ...}` of plain data. Its work is a function that calls engines several
times, each call depending on the one before. A task carries a shard of queries and runs them
concurrently in one process. A finished query goes to the shard's journal, one line and one fsync
each; at the end journals become Parquet. Resume is a difference of ids, as in growth.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.exceptions import RayError, RayTaskError

from avr.config.roles import QueriesConfig
from avr.core.messages import content_id
from avr.data.tables import read_ids, read_rows, write_rows
from avr.hosting.patience import Patience
from avr.hosting.progress import Progress
from avr.hosting.release import last_words
from avr.hosting.witness import Report, Tally, told
from avr.serving.journal import (
    Place,
    QueriesError,
    Query,
    Writer,
    check_complete,
    compact,
    journalled,
)
from avr.storage import Location

if TYPE_CHECKING:
    from avr.serving.pools import Pools

Work = Callable[[Query], Awaitable[Query]]

QUERIES = pa.schema([("id", pa.string()), ("query", pa.string())])
_POLL_S = 0.2
_CHECK_POOLS_EVERY_S = 5.0


@dataclass(frozen=True)
class Worked:
    """Count finished queries: done + quarantined = queries.

    `num_resumed` of them were there before.
    """

    num_done: int
    num_quarantined: int
    num_resumed: int
    engine_deaths: dict[str, int]


def run_queries(
    queries: Iterable[Query],
    work: Work,
    pools: "Pools | None",
    config: QueriesConfig,
    place: Place,
    name: str,
    witness: Any,
) -> Worked:
    """Work through the queries that are not committed yet; check that none is lost or doubled.

    The tasks apply `work` to each query, which may need no pools. `work` marks a query that cannot
    be finished as `quarantined`. Raises QueriesError with the worker's cause, and what
    `pools.check` raises.
    """
    source = place.asked
    rows = ({"id": query["id"], "query": json.dumps(query)} for query in queries)
    num_queries = write_rows(source, rows, QUERIES)
    wanted, there = read_ids(source), place.ended()
    resumed = len(wanted & there)
    if wanted - there:
        pending = (json.loads(r["query"]) for r in read_rows(source) if r["id"] not in there)
        with Progress({name: (num_queries, resumed)}, witness, "queries") as progress:
            _Flow(pending, work, pools, config, place, name, witness, progress).run()
    compact(place)
    num_done, num_quarantined = check_complete(wanted, place)
    return Worked(num_done, num_quarantined, resumed, dict(told(witness).deaths))


class _Flow:
    """Slide a window over tasks: about `max_queries_in_flight` queries run at any time."""

    def __init__(
        self,
        pending: Iterator[Query],
        work: Work,
        pools: "Pools | None",
        config: QueriesConfig,
        place: Place,
        name: str,
        witness: Any,
        progress: Progress,
    ):
        self._pending = pending
        # Put once: every task is given a reference to it.
        self._work = ray.put(work)
        self._pools = pools
        self._config = config
        self._place = place
        self._name = name
        self._witness = witness
        self._progress = progress
        self._running: dict[Any, int] = {}
        self._submitted = 0
        self._finished = 0
        self._shown = 0
        self._checked = time.monotonic()
        self._patience = Patience(config, self._checked)
        self._most_tasks = self._room()

    def run(self) -> None:
        """Submit tasks, collect their results and watch progress, until nothing is left."""
        try:
            while self._submit() or self._running:
                self._collect()
                self._watch()
            self._show(self._finished)
        except BaseException:
            # Tasks must not go on when the step has ended.
            for task in self._running:
                ray.cancel(task, force=True)
            raise

    def _submit(self) -> bool:
        """Fill the window; return whether queries may be left."""
        config = self._config
        size = config.queries_per_task
        # The window counts queries, not tasks: the next shard begins while a task still has its
        # last queries to finish.
        while len(self._running) < self._most_tasks and self._submitted - self._shown + size <= max(
            size, config.max_queries_in_flight
        ):
            shard = list(islice(self._pending, size))
            if not shard:
                return False
            # No limit to retries: a lost task is not its queries' fault, what it has committed is
            # skipped, and `Patience` ends what stands still.
            options = {"num_cpus": config.cpus_per_task, "max_retries": -1}
            task = work_through.options(**options).remote(
                shard, self._work, self._place.journal, self._name, self._witness
            )
            self._running[task] = len(shard)
            self._submitted += len(shard)
        return True

    def _room(self) -> int:
        """Return how many tasks may run: at least one, and more where they fit beside the pools.

        The pools are counted at their largest size: an engine that has to come back cannot use CPUs
        that tasks hold.
        """
        taken = self._pools.num_cpus if self._pools else 0.0
        cpus = ray.cluster_resources().get("CPU", 0.0) - taken
        return max(1, int(cpus / self._config.cpus_per_task))

    def _collect(self) -> None:
        # A short wait: pools and clocks are looked at in between.
        done, _ = ray.wait(list(self._running), timeout=_POLL_S) if self._running else ([], [])
        for task in done:
            try:
                ray.get(task)
            except RayError as error:
                # Not one query's fault, as those come back as quarantined rows: it ends the step.
                raise QueriesError(_cause(error, told(self._witness))) from error
            self._finished += self._running.pop(task)

    def _watch(self) -> None:
        # A task that is run again tells some queries twice; finished tasks are exact.
        advanced = min(told(self._witness).advanced[self._name], self._submitted)
        self._show(max(self._finished, advanced))
        now = time.monotonic()
        if now - self._checked > _CHECK_POOLS_EVERY_S:
            self._checked = now
            self._patience.look(self._pools.check() if self._pools else (), now)
            # Nodes may have come or gone.
            self._most_tasks = self._room()
        if (waited := self._patience.still_for(now)) is not None:
            raise QueriesError(
                f"{self._name} stopped: no query advanced in {waited:.0f} s "
                f"(no_progress_timeout_s; {self._submitted - self._shown} in flight); "
                "the same command continues"
            )
        if (overdue := self._patience.without_for(now)) is not None:
            roles, waited = overdue
            words = last_words(told(self._witness), roles[0])
            raise QueriesError(
                f"{self._name} stopped: no engine of the {' and the '.join(roles)} for "
                f"{waited:.0f} s (start_timeout_s; last known: {words}); the same command continues"
            )

    def _show(self, num_done: int) -> None:
        if num_done > self._shown:
            self._progress.committed(num_done - self._shown)
            self._shown = num_done
            self._patience.advance(time.monotonic())


@ray.remote
def work_through(shard: list[Query], work: Work, journal: Location, name: str, witness: Any) -> int:
    """Run a shard's queries concurrently and commit each one; skip those that are in the journal.

    A query per task would be the simplest unit, but every process that runs tasks has a Serve
    router of its own: 17% slower than 32 a task where it was measured
    (`QueriesConfig.queries_per_task`).
    """
    return asyncio.run(_work_through(shard, work, journal, name, witness))


async def _work_through(
    shard: list[Query], work: Work, journal: Location, name: str, witness: Any
) -> int:
    # The same name for every attempt at this shard: each finds what the others have committed.
    prefix = content_id([query["id"] for query in shard])
    there = {row["id"] for row in journalled(journal, prefix)}
    left = [query for query in shard if query["id"] not in there]
    tally = Tally(witness, name)
    with Writer(journal, prefix) as writer:

        async def one(query: Query) -> None:
            row = await work(query)
            # In a thread: the other queries go on while this line is synced.
            await asyncio.to_thread(writer.commit, row)
            tally.add()

        await asyncio.gather(*map(one, left))
    tally.flush()
    return len(left)


def _cause(error: BaseException, report: Report) -> str:
    """Return the innermost error of a task in words, and what the witness knows of dead engines."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    words = str(error).strip() or repr(error)
    failures = [cause for _, cause in report.failures[-1:]]
    return "; ".join([words, *failures, *report.causes[-3:]])
