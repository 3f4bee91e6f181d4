"""Compare our training with bare TRL, and our settings with TRL's own.

    python benchmarks/training.py --rounds 3
    python benchmarks/training.py --quick --rounds 1

With `--like chat` the rows are as long as chats, and the model is a random one large enough for
its multiplications to be what a step costs (`CHAT`).

Arms, in turn, two ranks on CPUs, for RSFT and for DPO, one pass over the rows:

- ours: `avr.training.launch.train` with the recipe's settings, as a job calls it;
- bare: the same settings, model, token ids, order and seeds under torchrun (`arms/bare_trl.py`);
- naive: bare, but TRL gets conversations, and of what decides speed (`FOR_SPEED`) its own defaults;
  of batches too with `--like chat`, as many rows a step;
- packed, padding_free, grouped, precomputed: ours with one setting changed (`CHANGES`).

`tokens_per_s`: trained tokens, padding left out, from the first log after `SKIP` steps to the last,
a checkpoint included; times and counts are those that TRL's TensorBoard callback writes, in every
arm; `stepping_per_s` has all steps, for where there are few. `with_setup_per_s`: all tokens over a
rank's time up to the last step: imports, tokenising, the model's loading, DPO's reference pass.
`seconds`: all of it, Ray's or the launcher's start too.
`peak_mib_*`: the kernel's high-water mark of a rank's resident memory; `held_mib_sum`: what ranks
have in the second half of their time, which is mostly steps (median). Ray has ended while bare
arms run. Memory arms train a larger random model: under the recipe's ZeRO-3, with buffers that are
to it what DeepSpeed's defaults are to 8B parameters (`in_proportion`), and as plain data parallel.
Ratios of rates are better above 1, of seconds below. Writes results/NAME.json and a picture.
"""

import argparse
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import mean, median

from arms import bare_trl
from measure.measuring import (
    CpuSeconds,
    Watch,
    children,
    draw_rates,
    fresh_folder,
    medians,
    tell,
    write_report,
)
from models.training_rows import conversations, pairs, write_large

from avr.config.load import load
from avr.data import schemas, tables
from avr.recipes.stage1 import Stage1Config
from avr.training.job import job_of
from avr.training.launch import train
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft

SKIP = 3  # first steps: allocations, caches
FOR_SPEED = {"gradient_checkpointing", "packing", "padding_free", "precompute_ref_log_probs"}
# Rows one by one have no padding, and one is work enough for a core.
ONE_BY_ONE = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
CHAT = ONE_BY_ONE | {"max_length": 4096, "precompute_ref_log_probs": True}
CHANGES = {
    "packed": {"packing": True},
    "padding_free": {"padding_free": True, "max_length": None},  # TRL wants no limit with it
    "grouped": {"train_sampling_strategy": "group_by_length"},
    "precomputed": {"precompute_ref_log_probs": True},
}
ARMS = {
    "rsft": ("ours", "bare", "naive", "packed", "padding_free", "grouped"),
    "dpo": ("ours", "bare", "naive", "precomputed"),
}
METHODS = {method.name: method for method in (Rsft(), Dpo())}
MEMORY = ("peak_mib_most", "peak_mib_sum", "held_mib_sum")
NOT_QUICK = ("padding_free", "grouped")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("config", nargs="?", default="conf/miniature/stage1.yaml")
    parser.add_argument("--rows", type=int, default=640, help="of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="training", help="of the report")
    parser.add_argument("--quick", action="store_true", help="192 rows, fewer arms")
    parser.add_argument("--like", choices=["stage1", "stage2", "chat"], default="stage1")
    parser.add_argument("--run-dir", type=Path, help="rows of a finished Stage I instead")
    parser.add_argument("--layers", type=int, default=8, help="of the memory arms' model; 0: none")
    parser.add_argument("--kinds", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--arms", nargs="+", choices={*ARMS["rsft"], *ARMS["dpo"]})
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-training"))
    arguments = parser.parse_args()
    arguments.rows = min(arguments.rows, 192 if arguments.quick else arguments.rows)
    work = fresh_folder(arguments.work)
    report = Bench(load(Stage1Config, arguments.config), arguments, work).run()
    asked = {k: v for k, v in vars(arguments).items() if k not in ("work", "run_dir", "name")}
    write_report(arguments.name, asked | {"own_rows": arguments.run_dir is None}, report)
    draw_rates(arguments.name, report["arms"], "trained tokens/s in steady state")


class Bench:
    """Run the arms, and hold what they have in common."""

    def __init__(self, config, arguments, work):
        self._config, self._arguments, self._work = config, arguments, work
        self._rows = {kind: work / f"{kind}.parquet" for kind in ARMS}
        self._lengths = {}
        self._model = config.policy.model
        if arguments.like == "chat":
            self._model = str(work / "chat")
            write_large(config.policy.model, work / "chat", num_layers=4, heads=8)

    def run(self):
        """Run all arms in turn, round by round; returns what goes into the report."""
        recipes = {kind: self._recipe(kind) for kind in ARMS}
        arms, memory, apart = {}, {}, {}
        if self._arguments.layers:
            write_large(self._config.policy.model, self._work / "large", self._arguments.layers)
            memory = {"zero3": [], "in_proportion": [], "plain": []}
        for turn in range(self._arguments.rounds):
            for kind in self._arguments.kinds:
                left = {}
                for arm in self._names(kind)[:: -1 if turn % 2 else 1]:
                    figures, left[arm] = self._one(kind, arm, recipes[kind], turn)
                    arms.setdefault(f"{kind} {arm}", []).append(figures)
                    tell(turn, {f"{kind} {arm}": [figures]})
                if {"ours", "bare"} <= left.keys():
                    found = bare_trl.difference(left["ours"], left["bare"])
                    apart.setdefault(kind, []).append(found)
                    print(f"round {turn}, {kind}: ours and bare are apart by {found}", flush=True)
            for arm, rounds in memory.items():
                rounds.append(self._memory(arm, turn))
                tell(turn, {arm: rounds})
        return {
            "arms": medians(arms),
            "ratios": bare_trl.ratios(arms),
            "ours_and_bare_apart": apart,
            "rows": {kind: bare_trl.shape(each) for kind, each in self._lengths.items()},
            "settings": {kind: dict(recipe.trl) for kind, recipe in recipes.items()},
            "memory": medians(memory),
            "memory_over_plain": {
                arm: bare_trl.over(one, memory["plain"], MEMORY)
                for arm, one in memory.items()
                if arm != "plain"
            },
        }

    def _names(self, kind):
        quick = self._arguments.quick
        wanted = self._arguments.arms or [a for a in ARMS[kind] if not (quick and a in NOT_QUICK)]
        return [arm for arm in ARMS[kind] if arm in wanted]

    def _recipe(self, kind):
        """Write rows, and make the recipe's training for one pass over them, in whole steps."""
        config = getattr(self._config, kind)
        if self._arguments.like == "chat":
            known = CHAT if kind == "dpo" else {k: v for k, v in CHAT.items() if "ref" not in k}
            config = replace(config, trl=config.trl | known)
        step = config.num_workers * config.trl["per_device_train_batch_size"]
        step *= config.trl.get("gradient_accumulation_steps", 1)
        like = self._arguments.like
        rows = {"rsft": conversations(like), "dpo": pairs(like)}[kind]
        if self._arguments.run_dir:
            step_of = {"rsft": "select", "dpo": "pair"}
            rows = tables.read_rows(self._arguments.run_dir / step_of[kind] / "rows.parquet")
        rows = list(islice(rows, self._arguments.rows))
        rows = rows[: len(rows) // step * step]
        columns = {"rsft": schemas.RSFT_ROWS, "dpo": schemas.PAIRS}
        tables.write_rows(self._rows[kind], rows, columns[kind])
        self._lengths[kind] = bare_trl.lengths(METHODS[kind], self._rows[kind], self._model)
        steps = len(rows) // step
        once = {
            "num_train_epochs": 1,
            "logging_steps": max(1, steps // 12),
            "save_steps": max(1, steps // 2),
            # Ours leaves longer rows out and TRL cuts them: there are none.
            "max_length": max(config.trl["max_length"], max(self._lengths[kind])),
        }
        return replace(config, trl={**config.trl, **once})

    def _one(self, kind, arm, recipe, turn):
        """Measure one arm; returns figures, and what another arm of the same work must share."""
        trl = dict(recipe.trl) | CHANGES.get(arm, {})
        if arm == "naive":
            trl = {name: value for name, value in trl.items() if name not in FOR_SPEED}
            if self._arguments.like == "chat":
                trl = {name: value for name, value in trl.items() if name not in ONE_BY_ONE}
        if arm == "packed":  # as many tokens a step as without
            batch = trl["per_device_train_batch_size"] * trl.get("gradient_accumulation_steps", 1)
            batch = bare_trl.packed_batch(batch, mean(self._lengths[kind]), trl["max_length"])
            ahead = min(batch, trl["per_device_train_batch_size"])
            trl["per_device_train_batch_size"] = ahead
            trl["gradient_accumulation_steps"] = max(1, round(batch / ahead))
        how = arm if arm in ("bare", "naive") else "ours"
        model = str(Path(self._model).resolve())
        folder = self._work / f"{kind}-{arm}-{turn}"
        figures, logged = self._train(kind, how, replace(recipe, trl=trl), model, folder)
        left = bare_trl.values_of(logged) | {"weights": bare_trl.weights_of(folder / "model")}
        shutil.rmtree(folder / "model")
        return figures, left

    def _memory(self, arm, turn):
        """Run a few steps of the larger model: too few for a rate."""
        few = {"max_steps": 6, "logging_steps": 1, "save_strategy": "no"}
        few["per_device_train_batch_size"] = 2
        recipe, model = self._config.rsft, self._work / "large"
        deepspeed = bare_trl.deepspeed_of(arm, recipe.deepspeed, model / "model.safetensors")
        config = replace(recipe, trl=recipe.trl | few, deepspeed=deepspeed)
        folder = self._work / f"memory-{arm}-{turn}"
        figures, _ = self._train("rsft", "ours", config, str(model), folder)
        shutil.rmtree(folder / "model")
        return {key: figures[key] for key in (*MEMORY, "seconds", "cpu_s")}

    def _train(self, kind, how, config, model, folder):
        """Train once, the model at `folder/model`; returns figures, and what TRL logged."""
        output, rows = folder / "model", self._rows[kind]
        job = job_of(kind, METHODS[kind], config, model, rows, output, "bare")
        memory = RankMemory(job.logs)
        if how == "ours":
            from avr.hosting.cluster import connect

            others = set(children())
            started = time.perf_counter()
            with CpuSeconds() as cpu, memory:
                connect(self._config.ray, [], self._work / "driver.log")
                train(kind, METHODS[kind], config, model, rows, output, say=lambda _: None)
            seconds = time.perf_counter() - started
            _end_ray(others)
        else:
            with CpuSeconds() as cpu, memory:
                seconds = bare_trl.launch(job, raw=how == "naive")
            job.weights.rename(output)
            shutil.rmtree(job.checkpoints.parent)
        logged = bare_trl.logged_in(job.logs / "tensorboard")
        spent = cpu.by_kind()
        figures = {
            **bare_trl.rates(
                logged, bare_trl.marks_of((job.logs / "rank-0.log").read_text()), SKIP
            ),
            "seconds": seconds,
            **memory.figures(),
            "cpu_all_s": sum(spent.values()),
            "cpu_s": spent,
        }
        return figures, logged


class RankMemory(Watch):
    """Watch each rank's memory, in MiB: the most, by the kernel's mark, and at each look."""

    every_s = 0.2

    def __init__(self, logs):
        self._logs, self._most, self._seen = logs, {}, {}

    def look(self):
        for log in self._logs.glob("rank-*.log"):
            with suppress(OSError, KeyError):  # it has not begun, or has ended
                most, now = bare_trl.memory_mib(bare_trl.process_of(log))
                self._most[log.stem] = most
                self._seen.setdefault(log.stem, []).append(now)

    def figures(self):
        most = self._most.values()
        held = sum(median(seen[len(seen) // 2 :]) for seen in self._seen.values())
        return dict(zip(MEMORY, (max(most), sum(most), held), strict=True))


def _end_ray(others):
    """End our cluster and wait for its processes: the next arm has the machine for itself."""
    import ray

    ray.shutdown()
    until = time.monotonic() + 30
    while set(children()) - others and time.monotonic() < until:
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
