"""Compare Stage II's search with ideal engines, with engines without Serve, and with threads.

    python benchmarks/search.py conf/miniature/stage2.yaml --queries 128 --rounds 3

It takes the model of `make demo`, or another folder: policy.model=avr/miniature/models/corrector

- ours: `avr.serving.queries.run_queries` through Serve pools, as a job runs it;
- ideal: the very requests of ours replayed by plain offline vLLM, as if no turn waited for another;
- ideal-turns: the same search, turn after turn, in one asyncio loop beside AsyncLLM, without Ray;
- direct: ours with plain Ray actors in the place of Serve's replicas;
- threads-N: the released code's way, N threads over HTTP servers with one request in flight each;
- per-task-N, in-flight-N: ours with other numbers of queries per Ray task and in flight.

Ours takes turns with each of the others; a first turn warms up. Every turn starts with empty prefix
caches, engine starts are left out. All but the threads sample with the same seeds. `--apart` keeps
engines from computing on the cores of everything else (`apart.py`).
"""

import argparse
import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from statistics import fmean

from arms import search_arms
from arms.http_threads import empty_caches, servers
from arms.plain_vllm import plain_engines, prefixes
from arms.search_arms import Actors, Client, OverHttp, in_one_process, judged_by, make_engine
from measure.apart import Apart
from measure.measuring import (
    CpuSeconds,
    draw_rates,
    figures_of,
    fresh_folder,
    medians,
    ratios,
    tell,
    write_report,
)
from models.widened import widened

from avr.config.load import load
from avr.config.prompts import templates_of
from avr.core.growth import Shape
from avr.core.reward import Rewarding
from avr.data import schemas, tables
from avr.data.prompt_sets import ingest
from avr.hosting.cluster import connect
from avr.hosting.host import Hosted
from avr.hosting.witness import witness_beside_driver
from avr.recipes.stage2 import Stage2Config
from avr.reports.trees import search_statistics
from avr.serving.journal import Place
from avr.serving.pools import Pools
from avr.serving.queries import run_queries
from avr.serving.works import SearchTree, tree_query
from avr.steps.ask import planted_in

ROLES = ("policy", "reward_model")
ARMS = ("sweep", "ideal", "ideal-turns", "direct", "threads")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--queries", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="beside ours")
    parser.add_argument("--per-task", type=int, nargs="*", default=[1, 8, 32, 64])
    parser.add_argument("--in-flight", type=int, nargs="*", default=[16, 64, 128])
    parser.add_argument("--threads", type=int, nargs="+", default=[20, 64])
    parser.add_argument("--widened", type=int, default=1, help="times as many neurons a layer")
    parser.add_argument("--apart", action="store_true", help="engines on cores of their own")
    parser.add_argument("--name", default="search", help="of the report")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-search"))
    arguments = parser.parse_intermixed_args()
    work = fresh_folder(arguments.work)
    config = load(Stage2Config, arguments.config, arguments.overrides)
    with Apart() if arguments.apart else nullcontext():
        report = Bench(config, arguments, work).run()
    asked = {key: value for key, value in vars(arguments).items() if key not in ("work", "name")}
    write_report(arguments.name, asked, report)
    draw_rates(arguments.name, report["arms"])


class Bench:
    """Run the arms, and hold what they have in common."""

    def __init__(self, config, arguments, work):
        self._config = config
        self._arguments = arguments
        self._work = work
        self._roles = {role: self._one_engine(role) for role in ROLES}
        ingest(config.prompts.search, work / "prompts.parquet", work / "rejected.parquet")
        trees = planted_in(work, "benchmark", from_input=False)
        self._queries = list(map(tree_query, islice(trees, arguments.queries)))
        self._works = {
            "templates": templates_of(config.templates),
            "shape": Shape(**asdict(config.tree)),
            "max_depth": config.max_depth,
        }
        self._turns = 0

    def run(self):
        """Record, then ours in turn with each of the others; what goes into the report."""
        connect(self._config.ray, [], self._work / "driver.log")
        recorded = self._recorded()
        arms, beside = {}, {}
        with self._hosted("ours", Pools) as (folder, pools):
            self._ours = partial(self._queried, folder, self._search(pools), pools)
            for name in self._arguments.arms:
                # Two sets of engines at a time are what fits into the memory of a laptop.
                with getattr(self, name.replace("-", "_"))() as others:
                    ours = partial(self._ours, self._config.queries)
                    found = self._in_turn({"ours": ours, **others})
                for arm, rounds in found.items():
                    arms.setdefault(arm, []).extend(rounds)  # ours is in each
                beside |= ratios(found, "ours")
        limits = asdict(self._config.queries)
        return {"limits": limits, "arms": medians(arms), "ratios": beside, **recorded}

    def _in_turn(self, arms):
        """Measure each arm, round by round; every other round begins with the last arm."""
        found = {arm: [] for arm in arms}
        for turn in range(-1, self._arguments.rounds):
            for arm in list(arms)[:: -1 if turn % 2 else 1]:
                figures = arms[arm]()
                if turn >= 0:
                    found[arm].append(figures)
                    tell(turn, {arm: [figures]})
        return found

    def _recorded(self):
        """Search once with requests written down, and give the figures."""
        with self._hosted("recorded", Pools, disable_log_stats=False) as (folder, pools):
            (folder / "record").touch()
            figures = self._queried(folder, self._search(pools), pools, self._config.queries)
        trees = search_statistics(self._work / f"turn-{self._turns}", None)
        trees |= {"all_tokens": figures["tokens"]}
        return {"recorded": trees, "prefixes": prefixes(folder, ROLES)}

    @contextmanager
    def sweep(self):
        """Try other limits on our engines alone, as functions from nothing to figures."""
        limits, asked = self._config.queries, self._arguments
        arms = search_arms.sweep(asdict(limits), asked.per_task, asked.in_flight)
        yield {name: partial(self._ours, replace(limits, **other)) for name, other in arms.items()}

    @contextmanager
    def ideal(self):
        with plain_engines(self._roles, self._work / "recorded") as replay:
            yield {"ideal": partial(self._replayed, replay)}

    def _replayed(self, replay):
        with CpuSeconds() as cpu:
            started, ended, generated, by_role = replay()
        figures = self._figures(started, ended, generated)
        for role, (begun, done, number, _) in by_role.items():
            figures |= {f"{role}_s": done - begun, f"{role}_requests": number}
            figures[f"{role}_busy"] = (done - begun) / (ended - started)
            figures[f"{role}_s_per_request"] = (done - begun) / number
        return figures | {"cpu_s": cpu.by_kind(started)}

    @contextmanager
    def ideal_turns(self):
        folder, roles = self._observed("ideal-turns")
        log = folder / "engines.log"
        with in_one_process(roles, self._config.seed, self._works, log) as run:
            yield {"ideal-turns": lambda: self._measured(folder, lambda _: run(self._queries))}

    @contextmanager
    def direct(self):
        with self._hosted("direct", Actors) as (folder, actors):
            work, limits = self._search(actors), self._config.queries
            yield {"direct": partial(self._queried, folder, work, actors, limits)}

    @contextmanager
    def threads(self):
        folder, _ = self._observed("threads")
        with servers(self._roles, folder) as urls:
            yield {
                f"threads-{number}": partial(self._threaded, folder, urls, number)
                for number in self._arguments.threads
            }

    def _threaded(self, folder, urls, number):
        """Search with threads: each has one query at a time, and a query one request.

        What `avr.core.search` would ask side by side is asked one after the other.
        """
        empty_caches(urls)
        asked = {
            role: OverHttp(Client(urls[role], config, folder, role))
            for role, config in self._roles.items()
        }
        rewarding = judged_by(asked["reward_model"])
        work = SearchTree(asked["policy"], rewarding, **self._works)

        def run(_):
            started = time.time()
            with ThreadPoolExecutor(number) as pool:
                rows = list(pool.map(lambda query: asyncio.run(work(query)), self._queries))
            return started, time.time(), rows

        return self._measured(folder, run)

    def _queried(self, folder, work, pools, limits):
        """Run `run_queries` once, from queries in memory to trees in Parquet."""
        witness = witness_beside_driver()

        def run(turn):
            place = Place(turn, "trees", schemas.TREES)
            started = time.time()
            run_queries(iter(self._queries), work, pools, limits, place, "search", witness)
            ended = time.time()
            rows = [tables.read_rows(turn / name) for name in ("trees", "quarantine")]
            return started, ended, [*chain(*rows)]

        return self._measured(folder, run)

    def _measured(self, folder, run):
        """Measure a search on the observed engines of `folder`."""
        self._turns += 1
        turn = self._work / f"turn-{self._turns}"
        turn.mkdir()
        search_arms.begin(folder, turn.name)
        with CpuSeconds() as cpu:
            started, ended, rows = run(turn)
        engines = search_arms.landed(folder, started, ended)
        figures = self._figures(started, ended, sum(one["tokens"] for one in engines.values()))
        figures |= _came_to(rows)
        for role, one in engines.items():
            figures |= {f"{role}_{name}": one[name] for name in ("requests", "request_s")}
        figures |= search_arms.flights(folder, started, ended)
        return figures | {"cpu_s": cpu.by_kind(started)}

    def _figures(self, started, ended, tokens):
        return figures_of(started, ended, tokens, queries=len(self._queries))

    def _search(self, pools):
        rewarding = Rewarding.by(pools.score())
        return SearchTree(pools.generate("policy"), rewarding, **self._works)

    @contextmanager
    def _hosted(self, name, kind, **engine):
        """Host engines on `kind`: `Pools` or `Actors`; gives their folder and them."""
        folder, roles = self._observed(name, **engine)
        hosted = [
            Hosted(role, role, settings, self._config.seed, folder, 1, make_engine=make_engine)
            for role, settings in roles.items()
        ]
        with kind(hosted, self._config.serving, witness_beside_driver()) as pools:
            yield folder, pools

    def _observed(self, name, **engine):
        """Make a folder for what engines tell, and roles with it in their environment."""
        folder = self._work / name
        folder.mkdir()
        search_arms.begin(folder, name)
        marks = {"BENCHMARK_FOLDER": str(folder), "BENCHMARK_ENGINES": "1"}  # none waits for others
        return folder, {
            role: replace(one, env=one.env | marks, engine=one.engine | engine)
            for role, one in self._roles.items()
        }

    def _one_engine(self, role):
        config = getattr(self._config, role)
        model = widened(config.model, self._arguments.widened, self._work / f"model-{role}")
        return replace(config, model=model, min_replicas=1, max_replicas=1)


def _came_to(rows):
    quarantined = sum(bool(row["quarantined"]) for row in rows)
    return {"mean_depth": fmean(len(row["levels"]) for row in rows), "quarantined": quarantined}


if __name__ == "__main__":
    sys.exit(main())
