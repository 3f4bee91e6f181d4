"""Time cold starts: where the seconds go until engines, pools and a job first answer.

    python benchmarks/startup.py conf/miniature/stage1.yaml --rounds 3

Every part is a new process each round:

- engine: one `avr.engines.engine.Engine`, phase by phase; the core's phase by vLLM's log as well;
- dataflow: Stage I's growth of a few prompts, an engine of each role starting side by side;
- serve: Stage II's pools, policy and reward model, with Stage I's settings;
- job: `jobs/stage1.py`, all steps, with few prompts: what its ledger and logs say.

Seconds of dataflow and serve are since the command. CPU seconds are of all processes, looked at
twice a second: the last moments of each are missing. The first round fills the page cache and does
not count. Writes results/startup.json and a picture; logs stay in --work.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import datetime
from itertools import islice, pairwise
from pathlib import Path

import psutil
from measure.measuring import KINDS, STEPS, CpuSeconds, draw, fresh_folder, spread, write_report

from avr.config.load import load
from avr.config.roles import ServingConfig
from avr.core.growth import Shape
from avr.core.messages import user
from avr.core.tree import Prompt
from avr.engines.imports import lasting_imports
from avr.recipes.stage1 import Stage1Config

# Until main() is reached; torch, then the engine's module is imported; the engine core's process is
# started; it says that it is ready; one token is there.
PHASES = ("python", "torch", "vllm", "core process", "core", "first token")
# The phase "core" once more, by the words of vLLM's log that end a part.
CORE_PARTS = {
    "imports": "Initializing a V1 LLM engine",
    "device": "Starting to load model",
    "weights": "Loading weights took",
    "cache": "init engine (profile",
    "reply": None,
}
RANK_WORDS = ("rows ready", "model loaded", "trained", "saved")
# Kinds of processes that only starts tell apart; they go before the others.
OWN_KINDS = {
    "engines": ("EngineCore", "multiprocessing.spawn"),
    "reference": ("avr.engines.reference",),
    "training": ("RayTrainWorker", "TrainController"),
    "command": ("jobs/stage1.py", __file__),
}
PROMPT = user("List (a) two tools.")


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
        part, folder = arguments.inside[0], Path(arguments.inside[1])
        (folder / "marks.json").write_text(json.dumps(INSIDE[part](arguments, config, folder)))
        return
    kinds = OWN_KINDS | {kind: words for kind, words in KINDS.items() if kind not in OWN_KINDS}
    KINDS.clear()
    KINDS.update(kinds)
    work = fresh_folder(arguments.work)
    rounds = {part: [] for part in arguments.parts}
    for turn in range(arguments.rounds + 1):
        for part in arguments.parts:
            rounds[part].append(PARTS[part](part, arguments, config, work / f"{part}-{turn}"))
            print(f"round {turn}, {part}: {rounds[part][-1]}", flush=True)
    report = {
        part: {what: _spreads([one[what] for one in found[1:]]) for what in found[0]}
        for part, found in rounds.items()
    }
    asked = {k: v for k, v in vars(arguments).items() if k not in ("work", "inside")}
    write_report("startup", asked, report)
    found = [(part, *one) for part in report for one in report[part]["seconds"].items()]
    bars = [(f"{a}: {b}", s["median"], f"{s['median']:.1f} s") for a, b, s in found]
    draw("startup", "seconds, medians", bars)


def _spreads(rounds):
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: spread([one.get(name, 0.0) for one in rounds], 2) for name in names}


def phases(marks, names=PHASES):
    """Compute the seconds of each phase, from when the first began and each ended."""
    steps = zip(names, pairwise(marks), strict=True)
    return {name: round(after - before, 3) for name, (before, after) in steps}


def core_parts(lines, begun, ready):
    """Compute the seconds of each of CORE_PARTS, from a log's (time, line) and its beginning."""
    ends = [begun]
    for name, words in CORE_PARTS.items():
        at = ready if words is None else next((at for at, line in lines if words in line), None)
        if at is None:
            raise ValueError(f"no line of the log ends the part {name!r}: {words!r}")
        ends.append(at)
    return phases(ends, CORE_PARTS)


def rank_seconds(text):
    """Read the seconds between a rank's log lines; the first since its function was entered."""
    said = [re.search(rf": {words} after ([\d.]+) s", text) for words in RANK_WORDS]
    return phases([0.0, *(float(found[1]) for found in said)], RANK_WORDS)


def ready_at(text):
    """Read when, this year, an engine was ready by its log (its clock shows whole seconds)."""
    stamps = re.findall(rf"(\d\d-\d\d \d\d:\d\d:\d\d).*{re.escape(CORE_PARTS['cache'])}", text)
    when = f"{datetime.now().year}-{stamps[-1]}"
    return datetime.strptime(when, "%Y-%m-%d %H:%M:%S").timestamp()


def _run(command, log, env=None):
    """Run it: when it was called, (time, line) of all that was said, CPU seconds by kind."""
    lines, called, env = [], time.time(), os.environ | (env or {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": env}
    pipes |= {"text": True, "errors": "replace"}
    with log.open("w") as file, CpuSeconds() as cpu, subprocess.Popen(command, **pipes) as one:
        for line in one.stdout:
            lines.append((time.time(), line))
            file.write(f"{lines[-1][0] - called:8.3f} {line}")
    if one.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {one.returncode}: see {log}")
    spent = cpu.by_kind()
    return called, lines, spent | {"all": sum(spent.values())}


def _inside(part, arguments, folder, env=None):
    """Run a part in a process of its own: its marks, and what `_run` gives."""
    folder.mkdir()
    command = [sys.executable, __file__, arguments.config, *arguments.overrides, "--prompts"]
    command += [str(arguments.prompts), "--inside", part, str(folder)]
    found = _run(command, folder / "log", env)
    return json.loads((folder / "marks.json").read_text()), *found


def _engine(part, arguments, config, folder):
    marks, called, lines, cpu = _inside(part, arguments, folder, config.policy.env)
    marks[3] += called  # by the clock that psutil reads it would be off by up to a second
    parts = core_parts(lines, *marks[3:5])
    return {"seconds": phases([called, *marks]), "core": parts, "cpu_s": cpu}


def _engine_inside(arguments, config, folder):
    marks = [time.time()]
    with lasting_imports():  # as in a job
        import torch  # noqa: F401

        marks.append(time.time())
        from avr.engines.engine import Engine

    marks.append(time.time())
    engine = Engine("policy", config.policy)
    ready, me = time.time(), psutil.Process()
    (core,) = [child for child in me.children() if "EngineCore" in " ".join(child.cmdline())]
    marks += [core.create_time() - me.create_time(), ready]
    asyncio.run(engine.generate((PROMPT,), 1, 0, {"max_tokens": 1}))
    marks.append(time.time())
    engine.shutdown()
    return marks


def _pooled(part, arguments, config, folder):
    marks, called, _, cpu = _inside(part, arguments, folder)
    seconds = {name: at - called for at, name in sorted((at, name) for name, at in marks.items())}
    return {"seconds": seconds, "cpu_s": cpu}


def _marked_engine(role, config, seed):
    """Make a job's engine that leaves marks: when it was ready, asked, and had answered."""
    from avr.hosting.host import vllm_engine

    def mark(what):
        file = Path(os.environ["BENCHMARK_FOLDER"]) / f"{what}.mark"
        file.exists() or file.touch()

    async def generate(*arguments):
        mark("first request")
        answer = await ask(*arguments)
        mark("first answer")
        return answer

    engine = vllm_engine(role, config, seed)
    ask, engine.generate = engine.generate, generate
    mark(f"{role} ready")
    return engine


def _hosted(config, roles, folder):
    from avr.hosting.host import Hosted

    for role in roles:
        settings = getattr(config, role)
        settings = replace(settings, env=settings.env | {"BENCHMARK_FOLDER": str(folder)})
        parity = config.growth.parity_tolerance if role == "reward_model" else None
        yield Hosted(STEPS[role], role, settings, 0, folder / "step", 1, parity, _marked_engine)


def _cluster(config, folder):
    """Start a cluster as a job does; returns the marks so far."""
    from avr.hosting.cluster import connect

    marks = {"imports": time.time()}
    connect(config.ray, [], folder / "driver.log")
    return marks | {"ray": time.time()}


def _seen(folder):
    """Read the marks that engines have left; a folder's time is when a file in it began."""
    reference = next(folder.rglob("parity/*.json"))
    marks = {"actors": folder / "step" / "logs", "reference": reference}
    marks |= {file.stem: file for file in folder.glob("*.mark")}
    return {name: file.stat().st_mtime for name, file in marks.items()}


def _dataflow_inside(arguments, config, folder):
    marks = _cluster(config, folder)
    from avr.config.prompts import templates_of
    from avr.data.prompt_sets import ingest
    from avr.dataflow.grow import grow
    from avr.dataflow.operators import Operator
    from avr.steps.ask import planted_in

    ingest(config.prompts.rsft, folder / "prompts.parquet", folder / "rejected.parquet")
    trees = islice(planted_in(folder, "benchmark", from_input=False), arguments.prompts)
    surroundings = templates_of(config.templates), Shape(**asdict(config.tree))
    operators = [Operator(one.name, one, *surroundings) for one in _hosted(config, STEPS, folder)]
    grow(trees, operators, config.growth, folder / "step")
    trees = [file.stat().st_mtime for file in (folder / "step" / "trees").glob("*.parquet")]
    return marks | _seen(folder) | {"first tree": min(trees), "last tree": max(trees)}


def _serve_inside(arguments, config, folder):
    marks = _cluster(config, folder)
    from avr.hosting.witness import witness_beside_driver
    from avr.serving.pools import Pools

    hosted = list(_hosted(config, ("policy", "reward_model"), folder))
    with Pools(hosted, ServingConfig(), witness_beside_driver()) as pools:
        marks["pools"] = time.time()
        (answer,) = asyncio.run(pools.generate("policy").generate((PROMPT,), 1, 0))
        asyncio.run(pools.score().score(Prompt.of((PROMPT,)), answer.text))
        marks["first reward"] = time.time()
    return marks | _seen(folder) | {"pools gone": time.time()}


def _job(part, arguments, config, folder):
    prompts = [f"prompts.{which}.limit={arguments.prompts}" for which in ("rsft", "dpo")]
    prompts += [f"evaluation.prompts.limit={arguments.prompts}", f"run_dir={folder}"]
    command = [sys.executable, "jobs/stage1.py", arguments.config, *arguments.overrides, *prompts]
    talkative = {"VLLM_LOGGING_LEVEL": "INFO"}  # TRL, which a job imports, asks for errors only
    called, lines, cpu = _run(command, folder.with_suffix(".log"), talkative)
    starts = [at for at, line in lines if line.rstrip().endswith(": starts")]
    seconds = {"before the first step": starts[0] - called}
    for entry in sorted((folder / "ledger").glob("*.json"), key=lambda f: f.stat().st_mtime):
        seconds |= _step(folder, entry)
    return {"seconds": seconds | {"all": lines[-1][0] - called}, "cpu_s": cpu}


def _step(folder, entry):
    """Time a step, and how much of it engines or training took to start."""
    step, all_of_it = entry.stem, json.loads(entry.read_text())["seconds"]
    engines = [ready_at(log.read_text()) for log in (folder / step / "logs").glob("*.log")]
    rank = folder / f"{step}.training" / "logs" / "rank-0.log"
    begun = entry.stat().st_mtime - all_of_it
    parts = {"until the last engine": max(engines) - begun} if engines else {}
    if rank.exists():
        parts = rank_seconds(rank.read_text())
        parts["around the ranks"] = all_of_it - sum(parts.values())
    return {step: all_of_it, **{f"{step}, {name}": value for name, value in parts.items()}}


PARTS = {"engine": _engine, "dataflow": _pooled, "serve": _pooled, "job": _job}
INSIDE = {"engine": _engine_inside, "dataflow": _dataflow_inside, "serve": _serve_inside}

if __name__ == "__main__":
    sys.exit(main())
