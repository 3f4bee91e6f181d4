"""Train with TRL under DeepSpeed alone: torchrun, a script a rank, no Ray (for training.py).

The bare launcher is torchrun, since DeepSpeed's own looks for GPUs. Ranks get the environment, the
settings and, unless `raw`, the tokenised rows of ours: made by the same function, in the same
order. With `raw` TRL gets conversations and does what it does by default.

At the end of the file: what is read from the logs of a training, which are alike here and in ours.
"""

import importlib
import os
import pickle
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

BEGINS = re.compile(r"rank \d+: begins in process (\d+) ")
MARK = re.compile(r"rank \d+: (rows ready|model loaded|trained) after ([\d.]+) s")
ZERO3_DEFAULTS = {
    "reduce_bucket_size": 5e8,
    "stage3_prefetch_bucket_size": 5e7,
    "stage3_max_live_parameters": 1e9,
    "stage3_max_reuse_distance": 1e9,
}
COMPARED = ("tokens_per_s", "stepping_per_s", "with_setup_per_s", "seconds", "cpu_all_s")
LOGGED = ("loss", "grad_norm", "num_tokens")


def launch(job, raw):
    """Train the `avr.training.job.Job` to the end; seconds from the launcher's start to its end.

    The model is at `job.weights`, logs and TensorBoard's files where those of ours are.
    """
    from avr.training.group import environment

    for folder in (job.logs, job.checkpoints):
        folder.mkdir(parents=True)
    file = job.logs / "order.pickle"
    file.write_bytes(pickle.dumps((job, raw)))
    ranks = f"--nproc-per-node={job.config.num_workers}"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", ranks]
    given = {
        **environment(job),
        "OMP_NUM_THREADS": "1",  # as Ray has it for a rank of one CPU
        "HF_DATASETS_CACHE": str(job.checkpoints / "cache"),  # no round finds another's tokens
    }
    started = time.perf_counter()
    with (job.logs / "launcher.log").open("w") as log:
        done = subprocess.run(
            [*command, __file__, str(file)],
            env=os.environ | given,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"the bare launcher failed: see {job.logs}")
    return seconds


def main(file):
    job, raw = pickle.loads(Path(file).read_bytes())
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    from avr.hosting.logs import redirect_output

    redirect_output(job.logs / f"rank-{rank}.log")
    print(f"rank {rank}: begins in process {os.getpid()} on {os.uname().nodename}", flush=True)
    import torch

    started = time.perf_counter()

    def say(what):
        print(f"rank {rank}: {what} after {time.perf_counter() - started:.1f} s", flush=True)

    if job.config.deepspeed:
        import deepspeed

        # On CPUs transformers leaves this out. DeepSpeed's shared-memory reduction is not compiled,
        # as in ours: only `inference_all_reduce` calls it.
        importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None
        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    arguments = _arguments(job, raw)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.model)
    rows = _rows(job, raw, tokenizer, arguments.max_length, rank, world_size)
    say("rows ready")
    trainer = _trainer_class(job.method.name, raw)(
        model=job.model, args=arguments, train_dataset=rows, processing_class=tokenizer
    )
    say("model loaded")
    trainer.train()
    say("trained")
    trainer.save_model(str(job.weights))
    say("saved")
    torch.distributed.destroy_process_group()


def _arguments(job, raw):
    """Make SFTConfig or DPOConfig before the model is loaded: ZeRO-3 then partitions it at once."""
    settings = dict(job.config.trl)
    settings.pop("save_total_limit", None)  # Ray Train's in ours
    if not raw:
        settings |= job.method.settings(settings)
    return job.method.arguments()(
        output_dir=str(job.checkpoints),
        deepspeed=dict(job.config.deepspeed) or None,
        report_to=list(job.config.trackers),
        use_cpu=True,
        ddp_backend="gloo",
        disable_tqdm=True,
        **settings,
    )


def _rows(job, raw, tokenizer, max_length, rank, world_size):
    """Load all rows as a `datasets.Dataset`: our tokens, or the conversations as they are."""
    import torch
    from datasets import Dataset

    if raw:
        _, *columns = job.method.columns  # but the id
        return Dataset.from_parquet(str(job.rows), columns=columns)
    from avr.training.tokenised import load_shares, write_share

    counts = write_share(
        job.method, tokenizer, job.rows, job.tokenised, max_length, rank, world_size
    )
    print(f"rank {rank}: {asdict(counts)}", flush=True)
    torch.distributed.barrier()
    return load_shares(job.tokenised, world_size)


def _trainer_class(kind, raw):
    import trl

    if kind == "rsft":
        return trl.SFTTrainer
    if raw:
        return trl.DPOTrainer

    class Tokenised(trl.DPOTrainer):
        """Tokenise nothing again: TRL has no setting against it for preference pairs."""

        def _prepare_dataset(self, dataset, *_, **__):
            return dataset

    return Tokenised


def process_of(log):
    """Find the process that writes a rank's log. Raises OSError while there is none."""
    found = BEGINS.findall(log.read_text(errors="replace")[:4000])
    if not found:
        raise OSError(f"{log} does not say yet")
    return int(found[-1])


def memory_mib(process):
    """Read the MiB a process ever had in memory (the kernel's high-water mark), and has now."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    kib = dict(line.split(":", 1) for line in lines)
    return tuple(round(int(kib[name].split()[0]) / 1024) for name in ("VmHWM", "VmRSS"))


def marks_of(text):
    """Read after how many seconds a rank had its rows, its model, and was trained."""
    return {what: float(seconds) for what, seconds in MARK.findall(text)}


def logged_in(folder):
    """Load what TRL logged, by name: entries with `step`, `wall_time` and `value`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {name: events.Scalars(f"train/{name}") for name in LOGGED}


def values_of(logged):
    """Map each name to its value at every logging step."""
    return {name: {one.step: one.value for one in entries} for name, entries in logged.items()}


def rates(logged, marks, skip):
    """Compute tokens, and tokens/s: in steady state, in all steps, and with all before them."""
    steps = {one.step for one in logged["loss"]}  # the trainer's summary has none
    later = [one for one in logged["num_tokens"] if one.step >= skip and one.step in steps]
    if len(later) < 2:
        raise ValueError(f"{len(later)} logging steps from step {skip} on: too few rows")
    first, last = later[0], later[-1]
    tokens = max(one.value for one in logged["num_tokens"])
    return {
        "tokens": tokens,
        "steps": max(steps),
        "tokens_per_s": (last.value - first.value) / (last.wall_time - first.wall_time),
        "stepping_per_s": tokens / (marks["trained"] - marks["model loaded"]),
        "with_setup_per_s": tokens / marks["trained"],
        "rows_s": marks["rows ready"],
        "setup_s": marks["model loaded"] - marks["rows ready"],
        "trained_s": marks["trained"],
    }


def difference(ours, bare):
    """Find the largest absolute difference, by name, of values at the same steps.

    Raises ValueError where steps or numbers of tokens differ: that is not the same work.
    """
    for name in ours:
        if ours[name].keys() != bare[name].keys():
            raise ValueError(f"{name}: not the same steps")
    if ours["num_tokens"] != bare["num_tokens"]:
        raise ValueError("ours and bare did not train on the same numbers of tokens")
    return {
        name: max(_apart(ours[name][key], bare[name][key]) for key in ours[name]) for name in ours
    }


def _apart(one, other):
    return float(abs(one - other).max()) if hasattr(one, "max") else abs(one - other)


def weights_of(model):
    """Load all weights of a model folder, as arrays by name."""
    from safetensors.numpy import load_file

    files = sorted(model.glob("*.safetensors"))
    return {name: array for file in files for name, array in load_file(file).items()}


def lengths(method, rows, model):
    """Count the tokens of every row; a pair has those of its longer side."""
    from transformers import AutoTokenizer

    from avr.training.rows import read_rows

    tokenizer = AutoTokenizer.from_pretrained(model)
    return [method.encode(tokenizer, row).length for row in read_rows(method.columns, rows)]


def deepspeed_of(arm, deepspeed, weights):
    """Give a memory arm's DeepSpeed settings; `weights` is the model's file, in float32.

    A model of less parameters than the defaults let live at once is not partitioned much.
    """
    if arm == "plain":
        return {}
    share = weights.stat().st_size / 4 / 8e9 if arm == "in_proportion" else None
    less = {name: int(number * share) for name, number in ZERO3_DEFAULTS.items()} if share else {}
    return {**deepspeed, "zero_optimization": {**deepspeed["zero_optimization"], **less}}


def packed_batch(batch, tokens_per_row, max_length):
    """Count the packed sequences that hold about as many tokens as `batch` rows; at least one."""
    return max(1, round(batch * tokens_per_row / max_length))


def ratios(arms):
    """Round by round: ours over bare, and every arm over TRL's defaults and over ours."""
    report = {}
    for name in arms:
        kind, arm = name.split()
        against = {"ours": ("bare", "naive"), "bare": (), "naive": ()}.get(arm, ("naive", "ours"))
        for other in against:
            if f"{kind} {other}" in arms:
                report[f"{name} / {other}"] = over(arms[name], arms[f"{kind} {other}"], COMPARED)
    return report


def over(one, other, keys):
    """Divide some figures of one arm by another's, round by round."""
    from measure.measuring import spread

    return {key: spread([a[key] / b[key] for a, b in zip(one, other, strict=True)]) for key in keys}


def shape(lengths):
    """Describe rows for a report: how many, their tokens, the padding of unsorted batches."""
    from measure.measuring import padding, spread  # what a rank need not import

    return {"number": len(lengths), "tokens": spread(lengths), "padding": padding(lengths)}


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # as Python ends, gloo's threads now and then abort a rank that has done its work
