"""Stage II search: what the number of queries per Ray task does to throughput.

    python benchmarks/search.py conf/miniature/stage2.yaml --queries 64 --per-task 1 8 32 64

It takes the Stage I model of `make demo`, or of another run with stage1_dir=RUN_DIR. One pair of
pools serves every arm, one after the other and in turn, so that all arms meet the same machine;
engine starts are left out. Writes results/search.json: queries/s and generated tokens/s
per arm, median and range over the rounds, with the machine and versions.
"""

import argparse
import shutil
import sys
import time
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

from measuring import spread, write_report

from avr.config_stage2 import Stage2Config
from avr.core.growth import Shape
from avr.core.prompts import Templates
from avr.core.tree import plant
from avr.loading import load
from avr.pipeline import tables
from avr.pipeline.cluster import connect
from avr.pipeline.hosting import Hosted
from avr.pipeline.journal import Place
from avr.pipeline.pools import Pools
from avr.pipeline.prompts import ingest
from avr.pipeline.queries import run_queries
from avr.pipeline.summary_stage2 import search_statistics
from avr.pipeline.witness import witness_beside_driver
from avr.pipeline.works import Search, tree_query


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--queries", type=int, default=96)
    parser.add_argument("--per-task", type=int, nargs="+", default=[1, 4, 16, 32, 96])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-search"))
    arguments = parser.parse_intermixed_args()
    config = load(Stage2Config, arguments.config, arguments.overrides)
    shutil.rmtree(arguments.work, ignore_errors=True)
    folder = arguments.work.resolve()
    folder.mkdir(parents=True)
    connect(config.ray, [], folder / "driver.log")
    arms = measure(config, folder, arguments.queries, arguments.per_task, arguments.rounds)
    asked = {key: getattr(arguments, key) for key in ("config", "queries", "rounds")}
    write_report("search", asked, {"arms": arms})
    for arm in arms:
        print(arm)


def measure(config, folder, num_queries, per_task, rounds):
    """Arms in turn, `rounds` times; the first round warms up and does not count."""
    hosted = [
        Hosted(role, role, settings, config.seed, folder, 1)
        for role, settings in (("policy", config.policy), ("reward_model", config.reward_model))
    ]
    ingest(config.prompts.search, folder / "prompts.parquet", folder / "rejected.parquet")
    rows = islice(tables.read_rows(folder / "prompts.parquet"), num_queries)
    prompts = [tables.prompt_of(row) for row in rows]
    witness = witness_beside_driver()
    seen = {n: [] for n in per_task}
    with Pools(hosted, config.serving, witness) as pools:
        work = Search(
            pools.generate("policy"),
            pools.score(),
            Templates(**asdict(config.templates)),
            Shape(**asdict(config.tree)),
            config.max_depth,
        )
        for turn in range(rounds + 1):
            for number in per_task:
                # Another recipe in each round: other seeds, so no prefix is cached from before.
                trees = [plant(prompt, f"{turn}-{number}") for prompt in prompts]
                place = Place(folder / f"{turn}-{number}", "trees", tables.TREES)
                started = time.perf_counter()
                queries = replace(config.queries, queries_per_task=number)
                teller = witness_beside_driver()
                run_queries(map(tree_query, trees), work, pools, queries, place, "search", teller)
                seconds = time.perf_counter() - started
                tokens = search_statistics(place.folder, None)["tokens"]
                if turn:
                    seen[number].append((len(trees) / seconds, tokens / seconds))
    return [_arm(number, figures) for number, figures in seen.items()]


def _arm(number, figures):
    names = ("queries_per_s", "tokens_per_s")
    rates = zip(names, zip(*figures, strict=True), strict=True)
    return {"queries_per_task": number, **{name: spread(values, 2) for name, values in rates}}


if __name__ == "__main__":
    sys.exit(main())
