"""Things that die at random while trees grow or queries are searched; what is left must be whole.

    python tests/integration/chaos.py --kills 100 --report runs/chaos.json [--seed 0]

Real Ray on one machine: a head that only the driver uses, and nodes that do the work. Engines are
scripted, so the trees of an undisturbed run are known. SIGKILL hits engines (Ray Data actors and
Serve replicas), tasks, nodes (their raylets) and the driver, which is then started again.
"""

import argparse
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import scripted_growth
import scripted_search

from avr.core.growth import Shape
from avr.core.tree import tree_from_dict
from avr.data.schemas import pair_row, rsft_row
from avr.rows.funnel import Funnel
from avr.rows.refinements import select_rsft
from avr.rows.row import KINDS
from avr.rows.rules import switched_on
from avr.rows.tree_pairs import make_pairs

HERE = Path(__file__).parent
RAY = str(Path(sys.executable).with_name("ray"))
NUM_NODES, CPUS_PER_NODE = 2, 4
NUM_TREES, NUM_QUERIES = 60, 60
# What a process of each kind is called while it works. Ray names workers after what they run.
KINDS_OF_PROCESS = {
    "engine actor": ("ray::MapWorker",),
    "serve replica": ("ray::ServeReplica",),
    "task": ("ray::work_through", "ray::MapBatches", "ray::ReadParquet"),
}
TIME_LIMIT_S = 600.0


class Nodes:
    """The cluster; nodes can be killed and come back."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            **{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "PYTHONPATH": f"{HERE.parents[1]}:{HERE}",
            "RAY_health_check_period_ms": "1000",  # a dead node is found in seconds
            "RAY_health_check_failure_threshold": "3",
        }
        self.address = ""
        self.helpers = {}  # of a node, by its raylet

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        self._ray("start", "--head", "--num-cpus=0", "--port=0", "--include-dashboard=false")
        (self.address,) = {
            line.split("'")[1] for line in self._said.splitlines() if "ray start --address=" in line
        }
        for _ in range(NUM_NODES):
            self.add()

    def __exit__(self, *error):
        for process in self._mine():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def add(self):
        before = set(self._mine())
        self._ray("start", f"--address={self.address}", f"--num-cpus={CPUS_PER_NODE}")
        new = set(self._mine()) - before
        self.helpers |= {p: new for p in new if p.info["name"] == "raylet"}

    def bury(self, raylet):
        """End what a machine that is lost takes along, and a raylet that is killed does not."""
        for process in self.helpers.pop(raylet, ()):
            with suppress(psutil.NoSuchProcess):
                # psutil looks again in every iteration; a zombie has no command line any more.
                if "log_monitor.py" in " ".join(process.info["cmdline"] or ()):
                    process.kill()

    def raylets(self):
        """Those that are not the head's, oldest first."""
        mine = [p for p in self._mine() if p.info["name"] == "raylet"]
        return sorted(mine, key=lambda process: process.create_time())[1:]

    def workers(self, names):
        found = []
        for process in psutil.process_iter(["cmdline", "ppid"]):
            title = " ".join(process.info["cmdline"] or ())
            if title.startswith(names) and process.info["ppid"] in self._raylet_ids():
                found.append(process)
        return found

    def _raylet_ids(self):
        return {p.pid for p in self._mine() if p.info["name"] == "raylet"}

    def _mine(self):
        found = []
        for process in psutil.process_iter(["cmdline", "name"]):
            if any(str(self.folder) in part for part in process.info["cmdline"] or ()):
                found.append(process)
        return found

    def _ray(self, *arguments):
        temporary = [f"--temp-dir={self.folder}"] if "--head" in arguments else []
        done = subprocess.run(
            [RAY, *arguments, *temporary, "--disable-usage-stats"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        self._said = done.stdout + done.stderr


class Growth:
    """Stage I: trees, and the rows and pairs that come from them."""

    name = "growth"
    command = (str(HERE / "scripted_growth.py"),)

    def arguments(self, folder):
        return (str(folder), str(NUM_TREES), "0.3", "0")

    def result(self, folder):
        return _rows(scripted_growth.grown_in(folder))

    def undisturbed(self):
        return _rows(scripted_growth.undisturbed(NUM_TREES))


class Search:
    """Stage II: searched trees."""

    name = "search"
    command = (str(HERE / "scripted_search.py"),)

    def arguments(self, folder):
        return (str(folder), str(NUM_QUERIES))

    def result(self, folder):
        return {"trees": scripted_search.plain(scripted_search.trees_of(folder))}

    def undisturbed(self):
        return {"trees": scripted_search.plain(scripted_search.undisturbed(NUM_QUERIES))}


def _rows(trees):
    grown = [tree_from_dict(tree) for tree in trees]
    templates = scripted_growth.TEMPLATES
    switches = {name: switched_on(name, "recommended", {}) for name in ("rsft", "pairs")}
    rows = select_rsft(grown, templates, switches["rsft"], Funnel("rsft"), shape=Shape())
    funnels = {kind: Funnel(kind) for kind in KINDS}
    pairs = make_pairs(grown, templates, switches["pairs"], funnels, 0.0, Shape())
    return {
        "trees": trees,
        "rows": [rsft_row(row) for row in rows],
        "pairs": [pair_row(pair) for pair in pairs],
    }


class Chaos:
    """Runs a job under fire until it has ended well; counts what was done to it."""

    def __init__(self, nodes, chance):
        self.nodes = nodes
        self.chance = chance
        self.kills = Counter()
        self.submissions = 0
        self.errors = []

    def run(self, work, folder, max_kills):
        """One job to its end, with at most so many kills."""
        log = folder.with_suffix(".log")
        deadline = time.monotonic() + TIME_LIMIT_S
        before = self.kills.total()
        driver = self._start(work, folder, log)
        try:
            self._to_the_end(driver, work, folder, log, deadline, before + max_kills)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.driver.pid, signal.SIGKILL)

    def _to_the_end(self, driver, work, folder, log, deadline, most_kills):
        while True:
            status = self._wait(driver, self.chance.uniform(0.5, 12.0))
            if status == 0:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"{work.name} does not end:\n{log.read_text()[-3000:]}")
            if status is not None:
                if status != -signal.SIGKILL:  # it gave up; its user would start it again
                    self.errors.append(_last_error(log.read_text()))
                driver = self._start(work, folder, log)
            elif self.kills.total() < most_kills:
                self._kill(driver)

    def _start(self, work, folder, log):
        self.submissions += 1
        self._restore()
        with log.open("a") as output:
            self.driver = subprocess.Popen(
                [sys.executable, *work.command, *work.arguments(folder)],
                env={**self.nodes.environment, "RAY_ADDRESS": self.nodes.address},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.driver

    def _wait(self, driver, seconds):
        try:
            return driver.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def _restore(self):
        while len(self.nodes.raylets()) < NUM_NODES:
            self.nodes.add()

    def _kill(self, driver):
        targets = {kind: self.nodes.workers(names) for kind, names in KINDS_OF_PROCESS.items()}
        if not (targets["engine actor"] or targets["serve replica"]):
            return  # nothing works yet: a kill now would only test Ray's own start
        targets |= {"node": self.nodes.raylets(), "driver": [driver]}
        kind = self.chance.choice(sorted(kind for kind, there in targets.items() if there))
        victim = self.chance.choice(targets[kind])
        try:
            if kind == "driver":
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
            else:
                victim.kill()
        except (psutil.NoSuchProcess, ProcessLookupError):
            return
        self.kills[kind] += 1
        if kind == "node":
            victim.wait(60)  # a machine with other work takes its time
            self.nodes.bury(victim)
            self._restore()


def _last_error(said):
    errors = [line for line in said.splitlines() if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return (errors or said.strip().splitlines())[-1][:300]


def chaos(num_kills, seed, folder, kills_per_run=8):
    """Kill until `num_kills` have been killed; raises where a result differs. Returns a report."""
    works = (Growth(), Search())
    chance = random.Random(seed)
    temporary = Path(tempfile.mkdtemp(prefix="avr-", dir="/tmp"))  # short: Ray's sockets lie there
    compared = Counter()
    runs = 0
    most_runs = len(works) + num_kills
    try:
        with Nodes(temporary) as nodes:
            fire = Chaos(nodes, chance)
            while fire.kills.total() < num_kills or runs < len(works):
                assert runs < most_runs, f"no kill lands: {fire.kills} in {runs} runs"
                work = works[runs % len(works)]
                here = folder / f"{work.name}-{runs}"
                fire.run(work, here, min(kills_per_run, num_kills - fire.kills.total()))
                left, wanted = work.result(here), work.undisturbed()
                for kind in wanted:
                    assert left[kind] == wanted[kind], f"{here}: {kind} differ"
                    compared[kind] += len(wanted[kind])
                runs += 1
                print(f"{work.name}: whole after {dict(fire.kills)}", flush=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {
        "seed": seed,
        "runs": runs,
        "submissions": fire.submissions,
        "kills": dict(fire.kills),
        "compared": dict(compared),
        "gave_up": fire.errors,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=Path("runs/chaos.json"))
    arguments = parser.parse_args()
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=arguments.report.parent)).resolve()
    report = chaos(arguments.kills, arguments.seed, folder)
    arguments.report.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
