"""Grow with simulated engines: is it linear, and does the driver stay small?

    python benchmarks/scaling.py --engines 1 16 256 1024 --prompts 1000 10000 100000

Engines (`models/simulated_engine.py`) only take time, so the rate of a thousand fits on one
machine: they are shared out over `--processes` actors, whose engines serve one queue. Everything
around them is real: Ray Data, actors, trees, Parquet. Linear is what one engine does by itself in
an event loop, times their number; `steady` compares the rates while the middle three fifths of the
trees end, so without the time in which the first come and the last go, which more trees would pay
for.

Where all engines together would ask more of this machine's cores than a cluster's nodes would, time
is stretched for all engines alike (`slowness`), which makes what surrounds them look cheaper;
`driver_share` is what one core of the driver would be busy at without that. With `--prompts`
engines take no time at all. Writes results/scaling.json; `scaling_charts.py` draws it.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
from measure.measuring import CpuSeconds, Memory, fresh_folder, rates_of, write_report
from models.simulated_engine import SLOTS, SimulatedEngine, make_engine

from avr.config.roles import GrowthConfig, RoleConfig
from avr.core.growth import Shape, correct, respond, score
from avr.core.messages import user
from avr.core.prompts import Templates
from avr.core.tree import Prompt, plant
from avr.dataflow.grow import grow
from avr.dataflow.operators import Operator, by_reward_model
from avr.hosting.cluster import connect
from avr.hosting.host import Hosted
from avr.plan.resources import rows_per_block
from avr.run.command import MALLOC

SHAPE, TEMPLATES = Shape(), Templates()
ROWS_PER_ENGINE = SLOTS  # trees in flight in one engine; each asks for one to four samples at once
# Of the reward model's for each such engine. It answers in a prefill, so an eighth is plenty, and
# all trees in hand of a thousand engines must fit into the memory of one machine. Blocks are sized
# as if it had as many: a real pool has, in fewer engines.
ROWS_TO_SCORE = SLOTS // 8
MANY = 128  # rows a block where engines take no time
MOST_TREES_PER_S = 100.0  # that this machine carries for the simulated cluster's nodes
ROLE = RoleConfig(
    model="simulated", use_gpu=False, num_cpus=0.01, max_rows_per_replica=ROWS_PER_ENGINE
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=int, nargs="*", default=[1, 4, 16, 64, 256])
    parser.add_argument("--prompts", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--processes", type=int, default=8, help="actors that share the engines")
    parser.add_argument("--trees-per-engine", type=int, default=4 * SLOTS)
    parser.add_argument(
        "--rows-per-block", type=int, help="default: what growth chooses, and 128 with --prompts"
    )
    parser.add_argument(
        "--start-s", type=float, default=0.0, help="seconds that an engine takes to start"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-scaling"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_one(arguments.work, **json.loads(arguments.one))))
        return
    work = fresh_folder(arguments.work)
    alone = _alone(arguments.trees_per_engine)
    print(f"one engine by itself: {alone}")
    engines = [_engines(arguments, work, number, alone) for number in arguments.engines]
    prompts = [_prompts(arguments, work, number) for number in arguments.prompts]
    asked = {key: value for key, value in vars(arguments).items() if key not in ("work", "one")}
    figures = {"alone": alone, "engines": engines, "prompts": prompts}
    write_report("scaling", asked, figures)


def _alone(trees):
    """Measure one engine and its share of a reward model, without anything around them."""

    async def one(tree, engine, judge):
        tree = await respond(tree, engine, TEMPLATES, SHAPE.max_tries)
        return await score(await correct(tree, engine, TEMPLATES, SHAPE), by_reward_model(judge))

    async def everything():
        engine, judge = SimulatedEngine(1, 1.0), SimulatedEngine(1, 1.0)
        room = asyncio.Semaphore(ROWS_PER_ENGINE)
        ends = []

        async def when_there_is_room(tree):
            async with room:
                await one(tree, engine, judge)
                ends.append((time.time(), 1))

        started = time.time()
        await asyncio.gather(*map(when_there_is_room, _planted(trees)))
        return rates_of(started, ends)

    return asyncio.run(everything())


def _engines(arguments, work, number, alone):
    slowness = max(1.0, number * alone["trees_per_s"] / MOST_TREES_PER_S)
    processes = min(number, arguments.processes)
    assert number % processes == 0, f"{number} engines cannot be shared out over {processes} actors"
    # As a pool of so many replicas has it, not of the few that stand for them here.
    rows = arguments.rows_per_block or rows_per_block(
        GrowthConfig(), [replace(ROLE, max_replicas=number)] * 2
    )
    wanted = {
        "name": f"engines-{number}",
        "rows": rows,
        "trees": number * arguments.trees_per_engine,
        "engines": number,
        "processes": processes,
        "slowness": slowness,
        "start_s": arguments.start_s,
    }
    seen = _in_a_process(work, wanted)
    of_linear = {key: seen[key] * slowness / (number * alone[key]) for key in alone}
    report = {
        "engines": number,
        "processes": processes,
        "rows_per_block": rows,
        "slowness": round(slowness, 2),
        "trees_per_s": seen["trees_per_s"],
        "of_linear": round(of_linear["trees_per_s"], 3),
        "of_linear_steady": round(of_linear["steady"], 3),
        "driver_ms_per_tree": seen["driver_ms_per_tree"],
        "driver_share": round(seen["driver_ms_per_tree"] * number * alone["trees_per_s"] / 1000, 3),
        "cpu_s": seen["cpu_s"],
    }
    print(report, flush=True)
    return report


def _prompts(arguments, work, number):
    rows = arguments.rows_per_block or MANY
    wanted = {
        "name": f"prompts-{number}-{rows}",
        "rows": rows,
        "trees": number,
        "engines": 8,
        "processes": 2,
        "slowness": 0.0,
        "start_s": arguments.start_s,
    }
    seen = _in_a_process(work, wanted)
    report = {"prompts": number, "rows_per_block": rows} | {
        key: seen[key]
        for key in ("trees_per_s", "driver_ms_per_tree", "driver_before_mib", "driver_most_mib")
    }
    print(report, flush=True)
    return report


def _in_a_process(work, wanted):
    """Run in a driver of its own: its memory and CPU are its own too."""
    command = [sys.executable, __file__, f"--work={work}", f"--one={json.dumps(wanted)}"]
    environment = dict([MALLOC]) | os.environ
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def _one(work, name, rows, trees, engines, processes, slowness, start_s):
    folder = work / name
    folder.mkdir(parents=True)
    connect({"num_cpus": 8}, [], folder / "driver.log")
    marks = {
        "BENCHMARK_FOLDER": str(folder),
        "BENCHMARK_PROCESSES": str(processes + 1),
        "SIMULATED_SLOWNESS": str(slowness),
        "SIMULATED_START_S": str(start_s),
    }
    there = (marks, folder)
    operators = [
        _operator(
            "grow", "policy", processes, max(1, engines // processes), ROWS_PER_ENGINE, *there
        ),
        _operator("score", "reward_model", 1, engines, ROWS_TO_SCORE, *there),
    ]
    config = GrowthConfig(rows_per_block=rows, no_progress_timeout_s=3600)
    with CpuSeconds() as cpu, Memory() as memory:
        grow(_planted(trees), operators, config, folder)
    started = max(file.stat().st_mtime for file in folder.glob("*.ready"))
    files = (folder / "trees").glob("*.parquet")
    ends = sorted((file.stat().st_mtime, pq.read_metadata(file).num_rows) for file in files)
    spent = cpu.by_kind(started)
    return {
        **rates_of(started, ends),
        "driver_ms_per_tree": round(1000 * spent["driver"] / trees, 3),
        "driver_before_mib": memory.before,
        "driver_most_mib": memory.most,
        "cpu_s": spent,
    }


def _operator(step, role, replicas, engines, rows, marks, folder):
    settings = replace(
        ROLE,
        min_replicas=replicas,
        max_replicas=replicas,
        max_rows_per_replica=rows * engines,
        env={**marks, "SIMULATED_ENGINES": str(engines)},
    )
    hosted = Hosted(step, role, settings, 0, folder, 1, make_engine=make_engine)
    return Operator(step, hosted, TEMPLATES, SHAPE)


def _planted(number):
    for each in range(number):
        yield plant(Prompt.of((user(f"question {each} " + "of some length " * 10),)), "s")


if __name__ == "__main__":
    sys.exit(main())
