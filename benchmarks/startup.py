"""Cold starts: where the seconds go until engines, pools and a job give their first answer.

    python benchmarks/startup.py conf/miniature/stage1.yaml --rounds 3

Every part is a new process each round:

- engine: one `avr.engines.engine.Engine`, phase by phase; its core's phase by vLLM's log lines;
- dataflow: Stage I's growth of a few prompts, an engine of each role starting side by side;
- serve: Stage II's pools, policy and reward model, with Stage I's settings;
- job: `jobs/stage1.py`, all steps, with few prompts.

Marks of dataflow and serve are seconds since the command; the job's seconds are its ledger's. CPU
seconds are of all processes, looked at twice a second: they miss the last moments of each.
Files that were read before lie in the page cache; the first round warms it and does not count.
Writes results/startup.json and a picture; what the processes said, with times, is kept in --work.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import psutil
from measuring import KINDS, CpuSeconds, draw, fresh_folder, make_engine, spread, write_report

from avr.config import Stage1Config
from avr.loading import load

# What a phase ends with; each begins where the one before it ended.
PHASES = {
    "python": "main() is reached",
    "torch": "torch is imported",
    "vllm": "vLLM's engine and ours are imported",
    "core process": "settings are read, the engine core's process is started",
    "core": "the core has imported vLLM, loaded weights, made its cache, and said so",
    "first token": "an answer of one token",
}
# The phase "core" once more, by the words of vLLM's log that end a part; the last ends with it.
READY = "init engine (profile"
CORE_PARTS = {
    "imports": "Initializing a V1 LLM engine",
    "device": "Starting to load model",
    "weights": "Loading weights took",
    "cache": READY,
    "reply": None,
}
RANK_WORDS = ("rows ready", "model loaded", "trained", "saved")
# Kinds of processes that only starts tell apart; they go before the others.
OWN_KINDS = {
    "engines": ("EngineCore", "multiprocessing.spawn"),
    "reference": ("avr.engines.reference",),
    "training": ("RayTrainWorker", "TrainController"),
    "command": ("jobs/stage1.py", "startup.py"),
}
STEPS = {"policy": "respond", "corrector": "correct", "reward_model": "score"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=16, help="of dataflow and job")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-startup"))
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_intermixed_args()
    config = load(Stage1Config, arguments.config, arguments.overrides)
    if arguments.inside:
        part, folder = arguments.inside
        marks = INSIDE[part](arguments, config, Path(folder))
        (Path(folder) / "marks.json").write_text(json.dumps(marks))
        return
    others = {kind: words for kind, words in KINDS.items() if kind not in OWN_KINDS}
    KINDS.clear()
    KINDS.update(OWN_KINDS | others)
    work = fresh_folder(arguments.work)
    rounds = {part: [] for part in arguments.parts}
    for turn in range(arguments.rounds + 1):
        for part in arguments.parts:
            rounds[part].append(PARTS[part](arguments, config, work / f"{part}-{turn}"))
            print(f"round {turn}, {part}: {rounds[part][-1]}", flush=True)
    report = {
        part: {what: _spreads([one[what] for one in found[1:]]) for what in found[0]}
        for part, found in rounds.items()
    }
    if "engine" in report:
        report["engine"]["imports_s"] = _imports(config, work / "imports.log")
    asked = {k: v for k, v in vars(arguments).items() if k not in ("work", "inside")}
    write_report("startup", asked, report)
    draw("startup", "seconds, medians", list(_bars(report)))


def _spreads(rounds):
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: spread([one.get(name, 0.0) for one in rounds], 2) for name in names}


def _bars(report):
    for part, figures in report.items():
        for name, one in [*figures["seconds"].items(), *figures.get("core", {}).items()]:
            words = f"core: {name}" if name in CORE_PARTS else name
            yield f"{part}: {words}", one["median"], f"{one['median']:.1f} s"


def phases(marks):
    """Seconds of each phase, from the times at which the process began and each phase ended."""
    return _between(PHASES, marks)


def core_parts(lines, begun, ready):
    """Seconds of each of CORE_PARTS, from (time, line) of a log and when the phase was entered."""
    ends = [begun]
    for name, words in CORE_PARTS.items():
        at = ready if words is None else next((at for at, line in lines if words in line), None)
        if at is None:
            raise ValueError(f"no line of the log ends the part {name!r}: {words!r}")
        ends.append(at)
    return _between(CORE_PARTS, ends)


def rank_seconds(text):
    """Seconds between what a rank says in its log; the first since its function was entered."""
    said = [re.search(rf": {words} after ([\d.]+) s", text) for words in RANK_WORDS]
    return _between(RANK_WORDS, [0.0, *(float(found[1]) for found in said)])


def _between(names, marks):
    steps = zip(names, pairwise(marks), strict=True)
    return {name: round(after - before, 3) for name, (before, after) in steps}


def by_package(text, most=12):
    """Seconds that the modules of each package took by themselves, of `python -X importtime`."""
    seconds = Counter()
    for own, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", text, re.MULTILINE):
        seconds[name.partition(".")[0]] += int(own) / 1e6
    found = [*seconds.most_common(most), ("all", seconds.total())]
    return {name: round(value, 2) for name, value in found}


def ready_at(text, year):
    """When an engine's log says that it was ready (its clock shows whole seconds)."""
    stamps = re.findall(rf"(\d\d-\d\d \d\d:\d\d:\d\d).*{re.escape(READY)}", text)
    return datetime.strptime(f"{year}-{stamps[-1]}", "%Y-%m-%d %H:%M:%S").timestamp()


def _run(command, log, env=None):
    """Run it: when it was called, (time, line) of all that was said, CPU seconds by kind."""
    lines, called = [], time.time()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with (
        log.open("w") as file,
        CpuSeconds() as cpu,
        subprocess.Popen(command, **pipes, errors="replace", env=os.environ | (env or {})) as one,
    ):
        for line in one.stdout:
            lines.append((time.time(), line))
            file.write(f"{lines[-1][0] - called:8.3f} {line}")
    if one.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {one.returncode}: see {log}")
    spent = cpu.by_kind()
    return called, lines, spent | {"all": sum(spent.values())}


def _inside(part, arguments, folder, env=None):
    """A part in a process of its own: its marks, and what `_run` gives."""
    folder.mkdir()
    command = [sys.executable, __file__, arguments.config, *arguments.overrides]
    command += ["--prompts", str(arguments.prompts), "--inside", part, str(folder)]
    found = _run(command, folder / "log", env)
    return json.loads((folder / "marks.json").read_text()), *found


def _engine(arguments, config, folder):
    marks, called, lines, cpu = _inside("engine", arguments, folder, config.policy.env)
    parts = core_parts(lines, *marks[3:5])
    return {"seconds": phases([called, *marks]), "core": parts, "cpu_s": cpu}


def _engine_inside(arguments, config, folder):
    marks = [time.time()]
    import torch  # noqa: F401

    marks.append(time.time())
    from avr.core.messages import user
    from avr.engines.engine import Engine

    marks.append(time.time())
    engine = Engine("policy", config.policy)
    ready = time.time()
    (core,) = [p for p in psutil.Process().children() if "EngineCore" in " ".join(p.cmdline())]
    marks += [time.time() - _age(core), ready]
    one = {**config.policy.sampling, "max_tokens": 1}
    asyncio.run(engine.generate((user("List (a) two tools."),), 1, 0, one))
    marks.append(time.time())
    engine.shutdown()
    return marks


def _age(process):
    """Seconds since a process was started; psutil's time of day is off by up to one."""
    ticks = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _imports(config, log):
    command = [sys.executable, "-X", "importtime", "-c", "import avr.engines.engine"]
    with log.open("w") as file:
        subprocess.run(command, env=os.environ | config.policy.env, stderr=file, check=True)
    return by_package(log.read_text())


def _pooled(part, arguments, config, folder):
    marks, called, _, cpu = _inside(part, arguments, folder)
    return {"seconds": {name: at - called for name, at in marks.items()}, "cpu_s": cpu}


def _hosted(config, roles, folder):
    """The engines as a job hosts them; MeasuredEngine writes when they were ready and asked."""
    from avr.pipeline.hosting import Hosted

    marks = {"BENCHMARK_FOLDER": str(folder), "BENCHMARK_ENGINES": "1"}  # none waits for another
    for role in roles:
        settings = getattr(config, role)
        settings = replace(settings, env={**settings.env, **marks})
        parity = config.growth.parity_tolerance if role == "reward_model" else None
        yield Hosted(STEPS[role], role, settings, 0, folder, 1, parity, make_engine)


def _cluster(config, folder):
    """A cluster as a job starts it; the marks so far."""
    from avr.pipeline import dataflow, pools  # noqa: F401 (what a driver imports)
    from avr.pipeline.cluster import connect

    marks = {"imports": time.time()}
    connect(config.ray, [], folder / "driver.log")
    return marks | {"ray": time.time()}


def _seen(folder):
    """Marks that the engines have left in files."""
    (flights,) = [file.read_text().splitlines() for file in folder.glob("policy.*.flights")]
    answer = next(line for line in flights if not line.endswith(" 0"))
    (reference,) = (folder / "parity").glob("*.json")
    return {
        "actors": (folder / "logs").stat().st_mtime,  # when the last log was begun
        "reference": reference.stat().st_mtime,
        **{f"{f.name.partition('.')[0]}": f.stat().st_mtime for f in folder.glob("*.ready")},
        "first request": float(flights[0].split()[0]),
        "first answer": float(answer.split()[0]),
    }


def _dataflow_inside(arguments, config, folder):
    marks = _cluster(config, folder)
    from avr.core.growth import Shape
    from avr.core.prompts import Templates
    from avr.core.tree import plant
    from avr.pipeline import tables
    from avr.pipeline.dataflow import Seedling, grow
    from avr.pipeline.operators import Operator
    from avr.pipeline.prompts import ingest

    ingest(config.prompts.rsft, folder / "prompts.parquet", folder / "rejected.parquet")
    rows = islice(tables.read_rows(folder / "prompts.parquet"), arguments.prompts)
    seedlings = [Seedling(plant(tables.prompt_of(row), "benchmark")) for row in rows]
    surroundings = Templates(**asdict(config.templates)), Shape(**asdict(config.tree))
    hosted = _hosted(config, STEPS, folder)
    grow(seedlings, [Operator(h.name, h, *surroundings) for h in hosted], config.growth, folder)
    trees = [file.stat().st_mtime for file in (folder / "trees").glob("*.parquet")]
    return marks | _seen(folder) | {"first tree": min(trees), "last tree": max(trees)}


def _serve_inside(arguments, config, folder):
    marks = _cluster(config, folder)
    from avr.config_stage2 import ServingConfig
    from avr.core.messages import assistant, user
    from avr.pipeline.pools import Pools
    from avr.pipeline.witness import witness_beside_driver

    hosted = list(_hosted(config, ("policy", "reward_model"), folder))
    prompt = user("List (a) two tools.")
    with Pools(hosted, ServingConfig(), witness_beside_driver()) as pools:
        marks["pools"] = time.time()
        (answer,) = asyncio.run(pools.generate("policy").generate((prompt,), 1, 0))
        asyncio.run(pools.score().score((prompt, assistant(answer.text))))
        marks["first reward"] = time.time()
    return marks | _seen(folder) | {"pools gone": time.time()}


def _job(arguments, config, folder):
    prompts = [f"prompts.{which}.limit={arguments.prompts}" for which in ("rsft", "dpo")]
    prompts += [f"evaluation.prompts.limit={arguments.prompts}", f"run_dir={folder}"]
    command = [sys.executable, "jobs/stage1.py", arguments.config, *arguments.overrides, *prompts]
    called, lines, cpu = _run(command, folder.with_suffix(".log"))
    first = next(at for at, line in lines if line.rstrip().endswith(": starts"))
    seconds = {"before the first step": first - called}
    for entry in sorted((folder / "ledger").glob("*.json"), key=lambda f: f.stat().st_mtime):
        seconds |= _step(folder, entry)
    return {"seconds": seconds | {"all": lines[-1][0] - called}, "cpu_s": cpu}


def _step(folder, entry):
    """A step's seconds, and what of them engines or training took to start."""
    step, all_of_it = entry.stem, json.loads(entry.read_text())["seconds"]
    logs = [log.read_text(errors="replace") for log in (folder / step / "logs").glob("*.log")]
    rank = folder / f"{step}.training" / "logs" / "rank-0.log"
    parts = {}
    if logs:
        ready = max(ready_at(log, datetime.now().year) for log in logs)
        parts = {"until the last engine": ready - entry.stat().st_mtime + all_of_it}
    if rank.exists():
        said = rank_seconds(rank.read_text(errors="replace"))
        parts = {"around the ranks": all_of_it - sum(said.values()), **said}
    return {step: all_of_it, **{f"{step}, {name}": value for name, value in parts.items()}}


INSIDE = {"engine": _engine_inside, "dataflow": _dataflow_inside, "serve": _serve_inside}
PARTS = {
    "engine": _engine,
    "dataflow": partial(_pooled, "dataflow"),
    "serve": partial(_pooled, "serve"),
    "job": _job,
}

if __name__ == "__main__":
    sys.exit(main())
