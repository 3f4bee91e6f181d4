"""Stage I growth: how close to the ideal engine, how far ahead of what people use today.

    python benchmarks/trees.py conf/miniature/stage1.yaml --prompts 256 --rounds 3

Arms, in turn, on the same machine, with the same models, prompts and engine flags:

- ideal: the very requests of ours, recorded, replayed by plain offline vLLM (`plain_vllm.py`);
- ours: `avr.pipeline.dataflow.grow`, from Parquet prompts to Parquet trees;
- threads-N: N threads, each with one request in flight over HTTP, the released code's way
  (`http_threads.py`).

Engine starts are left out: a clock starts when all engines of an arm are ready, and stops at the
last tree on disk. Every round starts with empty prefix caches. `--widened` makes the models as
costly as larger ones (`widened.py`). Writes results/NAME.json.
"""

import argparse
import json
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

from http_threads import grow_over_http, servers
from measuring import (
    CpuSeconds,
    Timeline,
    draw_rates,
    engines_alive,
    fresh_folder,
    make_engine,
    medians,
    ratios,
    tell,
    write_report,
)
from plain_vllm import load, plain_engines, unique_prefix_tokens
from widened import widened

from avr.config import Stage1Config
from avr.core.growth import Shape
from avr.core.prompts import Templates
from avr.core.tree import plant
from avr.loading import load as load_config
from avr.pipeline import tables
from avr.pipeline.cluster import connect
from avr.pipeline.dataflow import Seedling, grow
from avr.pipeline.hosting import Hosted
from avr.pipeline.operators import Operator
from avr.pipeline.prompts import ingest

BESIDE = "ideal-beside-threads"
STEPS = {"policy": "respond", "corrector": "correct", "reward_model": "score"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=64, help="max_num_seqs of every engine")
    parser.add_argument("--threads", type=int, nargs="*", default=[30, 96], help="over all engines")
    parser.add_argument("--widened", type=int, default=1, help="times as many neurons a layer")
    parser.add_argument("--name", default="trees", help="of the report")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-trees"))
    arguments = parser.parse_intermixed_args()
    config = load_config(Stage1Config, arguments.config, arguments.overrides)
    if config.corrector is None or any(getattr(config, role).max_replicas > 1 for role in STEPS):
        parser.error("the arms are comparable with a corrector and one replica of each role only")
    work = fresh_folder(arguments.work)
    bench = Bench(config, arguments, work)
    asked = {k: v for k, v in vars(arguments).items() if k not in ("work", "name")}
    report = bench.run()
    write_report(arguments.name, asked, report)
    draw_rates(arguments.name, report["arms"])


class Bench:
    """The arms, and what they have in common."""

    def __init__(self, config, arguments, work):
        self._config = config
        self._arguments = arguments
        self._work = work
        slots = arguments.slots
        self._roles = {
            role: replace(
                getattr(config, role),
                model=self._model(role),
                engine={**getattr(config, role).engine, "max_num_seqs": slots},
                max_rows_per_replica=slots,
            )
            for role in STEPS
        }
        ingest(config.prompts.rsft, work / "prompts.parquet", work / "rejected.parquet")
        rows = islice(tables.read_rows(work / "prompts.parquet"), arguments.prompts)
        self._prompts = [tables.prompt_of(row) for row in rows]
        self._templates = Templates(**asdict(config.templates))
        self._shape = Shape(**asdict(config.tree))

    def _model(self, role):
        model = getattr(self._config, role).model
        if self._arguments.widened == 1:
            return model
        return str(widened(model, self._arguments.widened, self._work / "models" / role))

    def run(self):
        """Record, then all arms in turn; what goes into the report."""
        connect({**self._config.ray, "num_cpus": 16}, [], self._work / "driver.log")
        recorded = self._ours("recorded", record=True)
        arms = {}

        def took(turn, arm, figures):
            arms.setdefault(arm, []).append(figures)
            tell(turn, {arm: [figures]})

        # Two sets of engines at a time are what fits into the memory of a laptop.
        turns = range(self._arguments.rounds)
        threads = self._arguments.threads
        with plain_engines(self._roles, self._work / "recorded") as replay:
            self._ideal(replay)  # once, to warm up
            for turn in turns:
                took(turn, "ours", self._ours(f"ours-{turn}"))
                took(turn, "ideal", self._ideal(replay))
            with servers(self._roles, self._work) if threads else nullcontext() as urls:
                for number in threads[-1:]:
                    self._threads(urls, number, "warm")
                for turn in turns if threads else ():
                    took(turn, BESIDE, self._ideal(replay))
                    for number in threads:
                        took(turn, f"threads-{number}", self._threads(urls, number, turn))
        return {
            "arms": medians(arms),
            "ratios": _ratios(arms),
            "prefixes": recorded["prefixes"],
            "start_s": round(recorded["start_s"], 1),
        }

    def _ours(self, name, record=False):
        folder = self._work / name
        folder.mkdir()
        marks = {"BENCHMARK_FOLDER": str(folder), "BENCHMARK_ENGINES": str(len(STEPS))}
        if record:
            (folder / "record").touch()
        operators = []
        for role, step in STEPS.items():
            settings = self._roles[role]
            stats = {"disable_log_stats": False} if record else {}
            settings = replace(
                settings, env={**settings.env, **marks}, engine={**settings.engine, **stats}
            )
            hosted = Hosted(step, role, settings, 0, folder, 1, make_engine=make_engine)
            operators.append(Operator(step, hosted, self._templates, self._shape))
        seedlings = [Seedling(plant(prompt, "benchmark")) for prompt in self._prompts]
        others = engines_alive()
        with CpuSeconds() as cpu:
            called = time.time()
            grow(seedlings, operators, self._config.growth, folder)
            returned = time.time()
        while engines_alive() != others:  # the next arm has the machine for itself
            time.sleep(0.1)
        started = max(file.stat().st_mtime for file in folder.glob("*.ready"))
        ended = max(file.stat().st_mtime for file in (folder / "trees").glob("*.parquet"))
        trees = list(tables.read_trees(folder / "trees"))
        # All that were asked for, those of samples that were rejected included.
        generated = sum(Timeline(file).tokens for file in folder.glob("*.flights"))
        figures = _figures(started, ended, len(trees), generated)
        figures |= {"start_s": started - called, "end_s": returned - ended}
        figures |= self._flights(folder, started, ended)
        if record:
            figures["prefixes"] = self._prefixes(folder)
        return figures | {"cpu_s": cpu.by_kind(started)}

    def _ideal(self, replay):
        with CpuSeconds() as cpu:
            by_role = replay()
        started = min(one[0] for one in by_role.values())
        ended = max(one[1] for one in by_role.values())
        generated = sum(one[3] for one in by_role.values())
        figures = _figures(started, ended, len(self._prompts), generated)
        seconds = {f"{role}_s": one[1] - one[0] for role, one in by_role.items()}
        return figures | seconds | {"cpu_s": cpu.by_kind()}

    def _threads(self, urls, number, turn):
        folder = self._work / f"threads-{number}-{turn}"
        folder.mkdir()
        with CpuSeconds() as cpu:
            started, ended, trees, generated = grow_over_http(
                self._prompts, urls, self._roles, self._templates, self._shape, number, folder
            )
        figures = _figures(started, ended, trees, generated)
        return figures | self._flights(folder, started, ended) | {"cpu_s": cpu.by_kind()}

    def _flights(self, folder, started, ended):
        """Busy share and tail of each engine."""
        half = self._arguments.slots // 2
        found = {}
        for file in folder.glob("*.flights"):
            role = file.name.partition(".")[0]
            line = Timeline(file)
            found[f"{role}_busy"] = line.share(started, ended, 1)
            found[f"{role}_half_full"] = line.share(started, ended, half)
            found[f"{role}_tail_s"] = line.tail(ended, half)
        return found

    def _prefixes(self, folder):
        """Prompt tokens computed against those of an endless prefix cache."""
        found = {}
        for role in STEPS:
            counts = json.loads((folder / f"{role}.counts.json").read_text())
            unique = unique_prefix_tokens(load(folder / f"{role}.requests.jsonl"))
            computed = counts["prompt"] - counts["cached"]
            per_unique = round(computed / unique, 3)
            found[role] = counts | {"unique": unique, "computed_per_unique": per_unique}
        return found


def _ratios(arms):
    """Of generated tokens per second: ours over all, and the ideal over what ran beside it."""
    found = ratios(arms, "ours")
    threads = {arm: rounds for arm, rounds in arms.items() if arm.startswith("threads")}
    return found | (ratios({BESIDE: arms[BESIDE], **threads}, BESIDE) if threads else {})


def _figures(started, ended, trees, generated):
    seconds = ended - started
    return {
        "seconds": seconds,
        "tokens": generated,
        "tokens_per_s": generated / seconds,
        "trees_per_s": trees / seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
