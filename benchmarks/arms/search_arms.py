"""Define what search.py compares: plain Ray actors, one process without Ray, HTTP servers.

Each takes the same planted trees through `avr.core.search`; only who carries a request to an engine
differs. Engines of our own are `Observed` everywhere.
"""

import asyncio
import multiprocessing
import os
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arms import http_threads
from arms.plain_vllm import hear, serve
from measure.make_engine import make_engine as measured
from measure.measuring import Flights, Timeline, engines_alive

from avr.core.reward import Rewarding, RewardModel
from avr.core.roles import Completion, ContextTooLong

ARM = "arm"


def begin(folder, name):
    """Name an arm: engines of this folder empty their prefix caches before the next request."""
    (folder / ARM).write_text(name)


def make_engine(role, config, seed):
    """Make an engine for `avr.hosting.host.Hosted`, observed."""
    engine = measured(role, config, seed)
    return Observed(engine, role, Path(config.env["BENCHMARK_FOLDER"]))


class Observed:
    """Log a line for each request that came back, and empty a `MeasuredEngine`'s caches.

    Serve's pools live through several arms and rounds, which ask for the same again.
    """

    def __init__(self, engine, role, folder):
        self._engine = engine
        self._arm_file = folder / ARM
        self._arm = ""
        self._emptying = asyncio.Lock()
        self._landed = Landed(folder / f"{role}.{os.getpid()}.landed")

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def generate(self, conversation, n, seed, sampling=None):
        await self._begin()
        started = time.time()
        completions = await self._engine.generate(conversation, n, seed, sampling)
        self._landed.add(started, sum(completion.num_tokens for completion in completions))
        return completions

    async def score(self, conversation):
        await self._begin()
        started = time.time()
        reward = await self._engine.score(conversation)
        self._landed.add(started, 0)
        return reward

    async def _begin(self):
        async with self._emptying:  # nobody asks before it is done: blocks in use would stay
            arm = self._arm_file.read_text()
            if arm != self._arm:
                await self._engine._llm.reset_prefix_cache()
                self._arm = arm


class Landed:
    """Write what `landed` reads: a line when a request has come back. One process, one file."""

    def __init__(self, file):
        self._file = open(file, "a", buffering=1)  # noqa: PTH123, SIM115 (as `Flights` does)

    def add(self, started, tokens):
        self._file.write(f"{started:.6f} {time.time():.6f} {tokens}\n")


def landed(folder, started, ended):
    """Count, per role, the requests that came back in a time: number, mean seconds, tokens."""
    found = defaultdict(list)
    for file in folder.glob("*.landed"):
        for line in file.read_text().splitlines():
            asked, answered, tokens = line.split()
            if started <= float(answered) <= ended:
                role = file.name.partition(".")[0]
                found[role].append((float(answered) - float(asked), int(tokens)))
    return {
        role: {
            "requests": len(rows),
            "request_s": sum(seconds for seconds, _ in rows) / len(rows),
            "tokens": sum(tokens for _, tokens in rows),
        }
        for role, rows in found.items()
    }


def flights(folder, started, ended):
    """Measure each engine's busy share and tail, in `Flights` that may hold other arms too.

    Half full has half of the most that this arm ever had in flight.
    """
    found = {}
    for file in folder.glob("*.flights"):
        rows = [line.split() for line in file.read_text().splitlines()]
        inside = [int(number) for at, number, _ in rows if started <= float(at) <= ended]
        if not inside:  # an engine of another arm
            continue
        half = max(1, max(inside) // 2)
        role, line = file.name.partition(".")[0], Timeline(file)
        found[f"{role}_most_in_flight"] = max(inside)
        found[f"{role}_busy"] = line.share(started, ended, 1)
        found[f"{role}_half_full"] = line.share(started, ended, half)
        found[f"{role}_tail_s"] = min(line.tail(ended, half), ended - started)
    return found


@dataclass(frozen=True)
class OnActor:
    """Ask an actor as `RemoteGenerate` does, and for a logit, without router and retries."""

    actor: Any
    model: str
    identity: str

    async def generate(self, conversation, n, seed):
        return await self.actor.generate.remote(self.model, None, conversation, n, seed)

    async def score(self, conversation):
        return await self.actor.score.remote(conversation)


class Actors:
    """Stand in for `avr.serving.pools.Pools` without Serve: the same replica, one actor a role.

    Actors take no logical CPUs, so that as many tasks fit beside them as beside the pools, which
    are there as well.
    """

    def __init__(self, hosted, serving, witness):
        import ray

        from avr.serving.replica import Replica

        kind = ray.remote(Replica).options(num_cpus=0, max_concurrency=serving.max_ongoing_requests)
        self.num_cpus = sum(one.config.num_cpus for one in hosted)
        self._others = engines_alive()
        self._models = {one.role: one.config.model for one in hosted}
        self._actors = {one.role: kind.remote("", one, witness) for one in hosted}

    def __enter__(self):
        import ray

        asked = {
            r: actor.identity.remote(self._models[r], None) for r, actor in self._actors.items()
        }
        self._identities = {role: ray.get(one) for role, one in asked.items()}  # once all are ready
        return self

    def __exit__(self, *error):
        import ray

        for actor in self._actors.values():
            with suppress(ray.exceptions.RayError):
                ray.get(actor.__ray_call__.remote(lambda replica: replica._host.shutdown()))
            ray.kill(actor)
        deadline = time.monotonic() + 60
        while engines_alive() != self._others and time.monotonic() < deadline:
            time.sleep(0.1)

    def generate(self, role):
        return OnActor(self._actors[role], self._models[role], self._identities[role])

    def score(self):
        return RewardModel("classifier", self.generate("reward_model").score)

    def check(self):
        """Report nothing: an actor that dies fails the task that asked it."""
        return []


@contextmanager
def in_one_process(roles, seed, works, log):
    """Run engines behind one asyncio loop, without Ray; gives a function from queries to rows.

    It returns (started, ended, rows). `works` holds the other fields of `works.SearchTree`.
    """
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, log, _search_when_asked, roles, seed, works)
    )
    process.start()
    theirs.close()

    def run(queries):
        ours.send(queries)
        return hear(ours)

    try:
        hear(ours)
        yield run
    finally:
        with suppress(OSError):  # it has ended with an error of its own
            ours.send(None)
        process.join()


def _search_when_asked(line, roles, seed, works):
    for config in roles.values():
        os.environ.update(config.env)  # vLLM reads it on import
    asyncio.run(_in_the_loop(line, roles, seed, works))


async def _in_the_loop(line, roles, seed, works):
    from avr.serving.works import SearchTree

    engines = {role: make_engine(role, config, seed) for role, config in roles.items()}
    work = SearchTree(engines["policy"], judged_by(engines["reward_model"]), **works)
    line.send("ready")
    while (queries := await asyncio.to_thread(line.recv)) is not None:
        started = time.time()
        rows = await asyncio.gather(*map(work, queries))
        line.send((started, time.time(), rows))


def judged_by(engine):
    """Make the reward that is the logit of an engine's reward model."""
    return Rewarding.by(RewardModel("classifier", engine.score))


class OverHttp:
    """Ask a server as Generate, and for a logit; the thread is held until it has answered."""

    identity = "http"

    def __init__(self, client):
        self._client = client

    async def generate(self, conversation, n, seed):
        del seed  # the client draws its own
        texts = [self._client.ask(conversation) for _ in range(n)]
        # Nobody looks at the rest: tokens are counted by the client.
        return tuple(Completion(text, "stop", 0) for text in texts)

    async def score(self, conversation):
        return self._client.reward(conversation)


class Client(http_threads.Client):
    """Ask as the trees' benchmark does, and log a line for each request that came back."""

    def __init__(self, url, config, folder, role):
        super().__init__(url, config, Flights(folder / f"{role}.flights"))
        self._landed = Landed(folder / f"{role}.landed")

    def _post(self, path, body):
        started = time.time()
        try:
            said = super()._post(path, body)
        except RuntimeError as error:
            if "maximum context length" in str(error):  # other refusals are not the query's fault
                raise ContextTooLong(str(error)) from error
            raise
        with self._lock:
            self._landed.add(
                started, said["usage"]["completion_tokens"] if "choices" in said else 0
            )
        return said


def sweep(limits, per_task, in_flight):
    """Name -> what is other than in `limits`, which are ours and need no arm of their own.

    Few in flight need small tasks: one task always runs, however many queries it has.
    """
    arms = {f"per-task-{n}": {"queries_per_task": n} for n in per_task}
    most = limits["queries_per_task"]
    arms |= {
        f"in-flight-{n}": {"queries_per_task": min(most, n), "max_queries_in_flight": n}
        for n in in_flight
    }
    return {name: other for name, other in arms.items() if limits | other != limits}
