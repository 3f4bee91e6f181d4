"""Compare Stage I's growth with the ideal engine, and with what people use today.

    python benchmarks/trees.py conf/miniature/stage1.yaml --prompts 256 --rounds 3

Arms, in turn, on the same machine, with the same models, prompts and engine flags:

- ideal: the very requests of ours, recorded, replayed by plain offline vLLM (`arms/plain_vllm.py`);
- ours: `avr.dataflow.grow.grow`, from Parquet prompts to Parquet trees;
- ray-data-llm: a chain of the processors of Ray's own library (`arms/ray_data_llm.py`), which
  needs a second engine for the corrector; ours-two-correctors is ours with as many;
- threads-N: N threads, each with one request in flight over HTTP, the released code's way
  (`arms/http_threads.py`).

Engine starts are left out: a clock starts when all engines of an arm are ready, and stops at the
last tree on disk. Every round starts with empty prefix caches. `--widened` makes the models as
costly as larger ones (`models/widened.py`), `--enlarged` gives them the shape of larger ones
(`models/enlarged.py`, for a GPU). `--apart` keeps engines from computing on the cores of
everything else (`measure/apart.py`). Writes results/NAME.json.
"""

import argparse
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from statistics import mean

from arms.http_threads import grow_over_http, servers
from arms.plain_vllm import plain_engines, prefixes
from arms.ray_data_llm import grow_in_chain
from measure.apart import Apart
from measure.make_engine import make_engine
from measure.measuring import (
    STEPS,
    CpuSeconds,
    Timeline,
    draw_rates,
    engines_alive,
    figures_of,
    fresh_folder,
    medians,
    ratios,
    tell,
    write_report,
)
from models.widened import widened

from avr.config.load import load as load_config
from avr.config.prompts import templates_of
from avr.core.growth import Shape
from avr.data import schemas, tables
from avr.data.prompt_sets import ingest
from avr.dataflow.grow import grow
from avr.dataflow.operators import Operator
from avr.hosting.cluster import connect
from avr.hosting.host import Hosted
from avr.plan.resources import rows_per_block
from avr.recipes.stage1 import Stage1Config
from avr.steps.ask import planted_in, prompts_in

BESIDE = "ideal-beside-threads"
CHAIN = "ray-data-llm"
AS_MANY = "ours-two-correctors"  # as many engines as the chain


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=64, help="max_num_seqs of every engine")
    parser.add_argument("--threads", type=int, nargs="*", default=[30, 96], help="over all engines")
    parser.add_argument(
        "--ray-data-llm",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="or leave it out",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round; ours is the growth that is recorded, with one corrector where the chain"
        " has two engines, so there is no ratio of the two",
    )
    parser.add_argument("--widened", type=int, default=1, help="times as many neurons a layer")
    parser.add_argument("--enlarged", type=int, help="LLaMA-3-8B's shape, with so many layers")
    parser.add_argument("--apart", action="store_true", help="engines on cores of their own")
    parser.add_argument("--name", default="trees", help="of the report")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-trees"))
    arguments = parser.parse_intermixed_args()
    config = load_config(Stage1Config, arguments.config, arguments.overrides)
    if config.corrector is None or any(getattr(config, role).max_replicas > 1 for role in STEPS):
        parser.error("the arms are comparable with a corrector and one replica of each role only")
    if arguments.ray_data_llm and any(getattr(config, role).gpu_share < 1 for role in STEPS):
        parser.error("the library gives every engine whole GPUs: --no-ray-data-llm")
    work = fresh_folder(arguments.work)
    bench = Bench(config, arguments, work)
    asked = {k: v for k, v in vars(arguments).items() if k not in ("work", "name")}
    with Apart() if arguments.apart else nullcontext():
        report = bench.run()
    write_report(arguments.name, asked, report)
    draw_rates(arguments.name, report["arms"])


class Bench:
    """Run the arms, and hold what they have in common."""

    def __init__(self, config, arguments, work):
        self._config = config
        self._arguments = arguments
        self._work = work
        slots = arguments.slots
        self._roles = {
            role: replace(
                one,
                model=_costly(one.model, arguments, work / f"model-{role}"),
                engine={**one.engine, "max_num_seqs": slots},
                max_rows_per_replica=slots,
            )
            for role, one in ((role, getattr(config, role)) for role in STEPS)
        }
        ingest(config.prompts.rsft, work / "all.parquet", work / "rejected.parquet")
        rows = islice(tables.read_rows(work / "all.parquet"), arguments.prompts)
        tables.write_rows(work / "prompts.parquet", rows, schemas.PROMPTS)
        self._prompts = list(prompts_in(work))
        self._templates = templates_of(config.templates)
        self._shape = Shape(**asdict(config.tree))

    def run(self):
        """Record, then all arms in turn; what goes into the report."""
        connect({**self._config.ray, "num_cpus": 16}, [], self._work / "driver.log")
        recorded = self._ours("recorded", record=True)
        arms = {}

        def took(turn, arm, figures):
            arms.setdefault(arm, []).append(figures)
            tell(turn, {arm: [figures]})

        # Two sets of engines at a time are what fits into the memory of a laptop.
        quick = self._arguments.quick
        turns = range(1 if quick else self._arguments.rounds)
        threads = self._arguments.threads
        with plain_engines(self._roles, self._work / "recorded") as replay:
            self._ideal(replay)  # once, to warm up
            for turn in turns:
                ours = {k: v for k, v in recorded.items() if k != "prefixes"}
                took(turn, "ours", ours if quick else self._ours(f"ours-{turn}"))
                took(turn, "ideal", self._ideal(replay))
                if self._arguments.ray_data_llm:
                    if not quick:
                        took(turn, AS_MANY, self._ours(f"two-{turn}", correctors=2))
                    took(turn, CHAIN, self._chain(f"chain-{turn}"))
            with servers(self._roles, self._work) if threads else nullcontext() as urls:
                for number in () if quick else threads[-1:]:
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

    def _ours(self, name, record=False, correctors=1):
        folder = self._work / name
        folder.mkdir()
        engines = len(STEPS) - 1 + correctors
        marks = {"BENCHMARK_FOLDER": str(folder), "BENCHMARK_ENGINES": str(engines)}
        if record:
            (folder / "record").touch()
        operators = []
        for role, step in STEPS.items():
            settings = self._roles[role]
            stats = {"disable_log_stats": False} if record else {}
            settings = replace(
                settings, env={**settings.env, **marks}, engine={**settings.engine, **stats}
            )
            if role == "corrector":
                settings = replace(settings, min_replicas=correctors, max_replicas=correctors)
            hosted = Hosted(step, role, settings, 0, folder, 1, make_engine=make_engine)
            operators.append(Operator(step, hosted, self._templates, self._shape))
        planted = planted_in(self._work, "benchmark", from_input=False)
        figures = self._grown(
            folder, "trees", lambda: grow(planted, operators, self._config.growth, folder)
        )
        trees = tables.read_trees(folder / "trees")
        figures["answers"] = sum(len(list(tree.responses())) for tree in trees)
        return figures | ({"prefixes": prefixes(folder, STEPS)} if record else {})

    def _chain(self, name):
        folder = self._work / name
        folder.mkdir()
        prompts = self._work / "prompts.parquet"
        rows = rows_per_block(self._config.growth, list(self._roles.values()))
        chain = (prompts, self._roles, self._templates, self._shape, rows, folder)
        figures = self._grown(folder, "answers", lambda: grow_in_chain(*chain))
        return figures | {"answers": tables.ids_of(folder / "answers").num_rows}

    def _grown(self, folder, written, call):
        """Measure `call`, which starts engines, from when they are ready to the last file."""
        others = engines_alive()
        with CpuSeconds() as cpu:
            called = time.time()
            call()
            returned = time.time()
        while engines_alive() != others:  # the next arm has the machine for itself
            time.sleep(0.1)
        started = max(file.stat().st_mtime for file in folder.glob("*.ready"))
        ended = max(file.stat().st_mtime for file in (folder / written).glob("*.parquet"))
        # All that were asked for, those of samples that were rejected included.
        generated = sum(Timeline(file).tokens for file in folder.glob("*.flights"))
        trees = len(tables.ids_of(folder / written))
        figures = figures_of(started, ended, generated, trees=trees)
        figures |= {"start_s": started - called, "end_s": returned - ended}
        return figures | self._flights(folder, started, ended) | {"cpu_s": cpu.by_kind(started)}

    def _ideal(self, replay):
        with CpuSeconds() as cpu:
            started, ended, generated, by_role = replay()
        figures = figures_of(started, ended, generated, trees=len(self._prompts))
        seconds = {f"{role}_s": one[1] - one[0] for role, one in by_role.items()}
        return figures | seconds | {"cpu_s": cpu.by_kind()}

    def _threads(self, urls, number, turn):
        folder = self._work / f"threads-{number}-{turn}"
        folder.mkdir()
        with CpuSeconds() as cpu:
            started, ended, trees, generated = grow_over_http(
                self._prompts, urls, self._roles, self._templates, self._shape, number, folder
            )
        figures = figures_of(started, ended, generated, trees=trees)
        return figures | self._flights(folder, started, ended) | {"cpu_s": cpu.by_kind()}

    def _flights(self, folder, started, ended):
        """Measure each engine's busy share and tail; the mean where two have one name."""
        half = self._arguments.slots // 2
        found = {}
        for file in folder.glob("*.flights"):
            name = file.name.partition(".")[0]
            line = Timeline(file)
            found.setdefault(f"{name}_busy", []).append(line.share(started, ended, 1))
            found.setdefault(f"{name}_half_full", []).append(line.share(started, ended, half))
            found.setdefault(f"{name}_tail_s", []).append(line.tail(ended, half))
        return {key: mean(values) for key, values in found.items()}


def _costly(model, arguments, folder):
    if arguments.enlarged is None:
        return widened(model, arguments.widened, folder)
    from models.enlarged import Size, enlarged  # it brings torch along

    return enlarged(model, Size(layers=arguments.enlarged), folder)


def _ratios(arms):
    """Divide generated tokens per second: ours by all, the others by what is fair to them."""
    fair = {arm: rounds for arm, rounds in arms.items() if arm != CHAIN or AS_MANY in arms}
    found = ratios(fair, "ours")
    threads = {arm: rounds for arm, rounds in arms.items() if arm.startswith("threads")}
    if AS_MANY in arms:
        found |= ratios({arm: arms[arm] for arm in (AS_MANY, CHAIN)}, AS_MANY)
    return found | (ratios({BESIDE: arms[BESIDE], **threads}, BESIDE) if threads else {})


if __name__ == "__main__":
    sys.exit(main())
