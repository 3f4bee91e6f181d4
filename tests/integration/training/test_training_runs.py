"""Whole trainings: two ranks, DeepSpeed ZeRO-3 and gloo, on a random two-layer Llama."""

import json
import math
import os
import re
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import training_models as tm

from avr.storage import local_copy, location, read_bytes, upload
from avr.training.job import TrainingError, fingerprint_of, job_of
from avr.training.launch import train
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft
from avr.training.methods.simpo import Simpo

pytestmark = pytest.mark.integration
NUM_ROWS, STEPS = 64, 16
RSFT = {"max_steps": STEPS, "save_strategy": "steps", "save_steps": 4, "save_total_limit": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, RSFT rows (two of them over 256 tokens) and DPO rows."""
    folder = tmp_path_factory.mktemp("training")
    tm.write_model(folder / "model")
    rows = [tm.rsft_row(i, num_words=90 if i in (5, 6) else 6) for i in range(NUM_ROWS)]
    tm.write_rows(folder / "rsft.parquet", rows)
    tm.write_rows(folder / "dpo.parquet", [tm.dpo_row(i) for i in range(NUM_ROWS)])
    return folder


@pytest.fixture(scope="module")
def rsft(ray_cluster, folder):
    """An uninterrupted RSFT run: its result, its output folder and the lines it said."""
    said = []
    output = folder / "rsft"
    result = train(
        "rsft",
        Rsft(),
        tm.on_cpus(RSFT),
        folder / "model",
        folder / "rsft.parquet",
        output,
        say=said.append,
    )
    return result, output, said


def weights(model):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype="float32").state_dict()


def mean_loss(model_folder, rows):
    """Loss per learned token over rows, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    losses = []
    for row in rows:
        columns = {k: torch.tensor([v]) for k, v in Rsft().encode(tokenizer, row).columns.items()}
        with torch.no_grad():
            losses.append(model(**columns).loss.item())
    return sum(losses) / len(losses)


def test_rsft_accounts_for_every_row(rsft):
    result, _, said = rsft
    assert (result.num_rows, result.num_trained, result.num_too_long) == (NUM_ROWS, 62, 2)
    assert result.num_steps == STEPS
    assert 0 < result.num_loss_tokens < result.num_tokens
    assert "62 rows" in said[0] and "2 rows over 256 tokens left out" in said[0]


def test_rsft_says_one_line_per_logging_step(rsft):
    _, _, said = rsft
    assert len(said) == 1 + STEPS // 2
    pace = r"(\S+ a second|one in \S+ s)(, \d+ (s|min) left)?"
    line = rf"rsft: step \d+/{STEPS}(, {pace})?: loss "  # no pace in the first second
    assert all(re.match(line, each) for each in said[1:])
    assert re.search(pace, said[-1])


def test_rsft_output_is_a_whole_model_that_has_learned(rsft, folder):
    _, output, _ = rsft
    files = {f.name for f in output.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "tokenizer.json",
        "training.json",
    } <= files
    assert "training_args.bin" not in files
    assert tm.load_json(output / "config.json")["use_cache"] is True
    rows = [tm.rsft_row(i) for i in range(10, 20)]
    assert mean_loss(output, rows) < mean_loss(folder / "model", rows) - 0.2


def test_rsft_output_keeps_chat_template_and_end_of_turn(rsft, folder):
    from transformers import AutoTokenizer, GenerationConfig

    _, output, _ = rsft
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer.chat_template == tm.OURS
    stops = GenerationConfig.from_pretrained(output).eos_token_id
    assert tokenizer.eos_token_id in (stops if isinstance(stops, list) else [stops])


def test_logs_hold_ranks_and_tensorboard_and_checkpoints_are_gone(rsft, folder):
    training = folder / "rsft.training"
    assert {f.name for f in training.iterdir()} == {"logs"}
    assert {"rank-0.log", "rank-1.log"} <= {f.name for f in (training / "logs").iterdir()}
    assert list((training / "logs" / "tensorboard").rglob("events.out*"))
    assert "Disassembly" not in (training / "logs" / "rank-0.log").read_text()


def test_same_call_again_returns_the_result_without_training(rsft, folder):
    result, output, _ = rsft
    said = []
    again = train(
        "rsft",
        Rsft(),
        tm.on_cpus(RSFT),
        folder / "model",
        folder / "rsft.parquet",
        output,
        say=said.append,
    )
    assert again == result and said == []


class Killer(threading.Thread):
    """Kills the newest process of one rank as soon as a checkpoint of `step` (None: any) is there.

    `written` is where ranks write their logs, if that is not where the run keeps them.
    """

    def __init__(self, logs, rank: int, step: int | None, written: Path | None = None):
        super().__init__(daemon=True)
        self.logs, self.rank, self.step, self.killed, self.at = logs, rank, step, None, 0.0
        self.written = written or logs
        self.start()

    def run(self):
        deadline = time.monotonic() + 500
        while not self._recorded():
            if time.monotonic() > deadline:
                return  # the test sees that nothing was killed
            time.sleep(0.01)
        log = (self.written / f"rank-{self.rank}.log").read_text()
        self.killed, self.at = int(re.findall(r"in process (\d+)", log)[-1]), time.time()
        os.kill(self.killed, signal.SIGKILL)

    def _recorded(self):
        recorded = [e["step"] for e in events(self.logs) if e["event"] == "checkpoint"]
        return bool(recorded) if self.step is None else self.step in recorded


def events(logs):
    files = [file for file in (logs / "events.jsonl", logs / "failures.jsonl") if file.exists()]
    lines = [line for file in files for line in read_bytes(file).decode().splitlines()]
    return [json.loads(line) for line in lines if line.endswith("}")]


def test_killed_ranks_and_a_repeated_call_continue_to_the_same_weights(rsft, folder):
    import torch

    output, logs = folder / "killed", folder / "killed.training" / "logs"
    arguments = (
        "rsft",
        Rsft(),
        tm.on_cpus(RSFT, max_failures=1),
        folder / "model",
        folder / "rsft.parquet",
        output,
    )
    first, second = Killer(logs, rank=1, step=4), Killer(logs, rank=0, step=12)
    with pytest.raises(TrainingError, match=r"rank \d failed"):
        train(*arguments)
    assert first.killed and second.killed
    assert not output.exists()

    said = []
    result = train(*arguments, say=said.append)
    begins = [e["step"] for e in events(logs) if e["event"] == "begin"]
    assert begins[0] == 0 and begins[1] >= 4 and begins[2] >= 12
    assert sum(e["event"] == "failure" for e in events(logs)) == 2
    assert f"continuing after step {begins[2]}" in said[0]
    assert result.num_steps == STEPS and result.num_trained == 62

    straight, continued = weights(rsft[1]), weights(output)
    assert straight.keys() == continued.keys()
    for name, tensor in straight.items():
        torch.testing.assert_close(continued[name], tensor, atol=1e-5, rtol=1e-4)


def test_a_killed_training_goes_on_from_a_checkpoint_that_was_due_by_time(rsft, folder):
    import torch

    output, training = folder / "timed", folder / "timed.training"
    by_time = tm.on_cpus({"max_steps": STEPS}, max_failures=0, checkpoint_every_s=0.2)
    del by_time.trl["save_strategy"]
    arguments = ("rsft", Rsft(), by_time, folder / "model", folder / "rsft.parquet", output)
    killer = Killer(training / "logs", rank=1, step=None)
    with pytest.raises(TrainingError, match=r"rank \d failed"):
        train(*arguments)
    assert killer.killed
    saved = [e["step"] for e in events(training / "logs") if e["event"] == "checkpoint"]
    (kept,) = {marker.parent for marker in training.rglob(f"checkpoint-{saved[-1]}/complete")}
    files = [file.name for file in kept.rglob("*")]
    assert any(name.endswith("optim_states.pt") for name in files)
    assert not any(name.endswith(".safetensors") for name in files)  # no whole model beside it

    result = train(*arguments)
    begins = [e["step"] for e in events(training / "logs") if e["event"] == "begin"]
    assert begins == [0, saved[-1]] and 0 < saved[-1] < STEPS
    assert result.num_steps == STEPS
    straight, continued = weights(rsft[1]), weights(output)
    for name, tensor in straight.items():
        torch.testing.assert_close(continued[name], tensor, atol=1e-5, rtol=1e-4)


@pytest.mark.long
def test_on_an_object_store_a_killed_rank_continues_from_the_checkpoint_there(rsft, folder, store):
    import torch

    output = location(f"{store}/training/rsft")
    rows = output.parent / "rsft.parquet"
    rows.write_bytes((folder / "rsft.parquet").read_bytes())
    upload(folder / "model", output.parent / "model")
    config, model = tm.on_cpus(RSFT, max_failures=1), str(output.parent / "model")
    name = fingerprint_of(Rsft(), config, model, rows)
    here = job_of("rsft", Rsft(), config, model, rows, output, name).here
    shutil.rmtree(here.checkpoints.parent, ignore_errors=True)
    logs = output.with_name("rsft.training") / "logs"
    killer = Killer(logs, rank=0, step=8, written=here.logs)
    said = []
    result = train("rsft", Rsft(), config, model, rows, output, say=said.append)
    assert killer.killed and result.model == str(output)
    begins = [e["step"] for e in events(logs) if e["event"] == "begin"]
    assert begins[0] == 0 and begins[1] >= 8
    assert any(f"continuing after step {begins[1]}" in line for line in said)
    with local_copy(output) as copy:
        straight, continued = weights(rsft[1]), weights(copy)
        assert not list(copy.glob("*.bin"))
    for name, tensor in straight.items():
        torch.testing.assert_close(continued[name], tensor, atol=1e-5, rtol=1e-4)
    assert not here.checkpoints.exists() and not here.weights.exists()  # copies are gone
    assert {file.name for file in output.with_name("rsft.training").iterdir()} == {"logs"}
    assert "trained" in (logs / "rank-0.log").read_text()
    again = []
    assert (
        train("rsft", Rsft(), config, model, rows, output, say=again.append) == result
        and again == []
    )


@pytest.mark.long
def test_bad_row_ends_the_run_at_once_with_the_row_named(ray_cluster, folder, tmp_path):
    rows = [tm.rsft_row(i) for i in range(8)]
    rows[5]["messages"][1]["content"] = ""
    path = tm.write_rows(tmp_path / "rows.parquet", rows)
    output = tmp_path / "out"
    with pytest.raises(TrainingError, match=r"row r5: messages\[1\]: the text is empty"):
        train("rsft", Rsft(), tm.on_cpus(RSFT), folder / "model", path, output)
    assert not output.exists()
    assert events(tmp_path / "out.training" / "logs") == []  # neither begun nor restarted


def test_dpo_starts_at_the_reference_and_learns_the_preference(ray_cluster, folder):
    from safetensors import safe_open

    said = []
    trl = {"max_steps": 10, "logging_steps": 1, "precompute_ref_log_probs": True, "beta": 0.5}
    result = train(
        "dpo",
        Dpo(),
        replace(tm.on_cpus(trl), save_dtype="bfloat16"),
        folder / "model",
        folder / "dpo.parquet",
        folder / "dpo",
        say=said.append,
    )
    steps = [e["metrics"] for e in events(folder / "dpo.training" / "logs") if e["event"] == "log"]
    # Policy and precomputed reference agree at the first step: the loss is -log sigmoid(0).
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert result.metrics["rewards/margins"] > 0.1
    assert result.metrics["rewards/accuracies"] > 0.7
    assert any("accuracy" in line and "margin" in line for line in said)
    assert tm.load_json(folder / "dpo" / "config.json")["dtype"] == "bfloat16"
    with safe_open(folder / "dpo" / "model.safetensors", framework="pt") as tensors:
        dtypes = {str(tensors.get_tensor(name).dtype) for name in tensors.keys()}  # noqa: SIM118
    assert dtypes == {"torch.bfloat16"}


def simpo_loss(model_folder, rows, beta, margin):
    """The mean loss of SimPO's paper over rows, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(model_folder)

    def mean_log_probability(prompt, completion):
        ids = torch.tensor([prompt + completion])
        with torch.no_grad():
            logs = model(ids).logits[0, :-1].log_softmax(-1)
        each = logs.gather(-1, ids[0, 1:, None])[-len(completion) :, 0]
        return each.mean()

    losses = []
    for row in rows:
        columns = Dpo().encode(tokenizer, row).columns
        chosen, rejected = (
            mean_log_probability(columns["prompt_ids"], columns[f"{side}_ids"])
            for side in ("chosen", "rejected")
        )
        ahead = beta * (chosen - rejected) - margin
        losses.append(-torch.nn.functional.logsigmoid(ahead).item())
    return sum(losses) / len(losses)


def test_simpo_is_the_loss_of_its_paper_and_needs_no_reference_model(ray_cluster, folder):
    """The first step's loss, before anything is learned, over the four rows of both ranks."""
    rows = [tm.dpo_row(i) for i in range(4)]
    file = tm.write_rows(folder / "four.parquet", rows)
    trl = {
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "loss_type": "sigmoid_norm",
        "beta": 2.0,
    }
    config = tm.on_cpus(trl)
    result = train(
        "dpo",
        Simpo(margin=1.5),
        config,
        folder / "model",
        file,
        folder / "simpo",
        say=lambda line: None,
    )
    expected = simpo_loss(folder / "model", rows, beta=2.0, margin=1.5)
    assert result.metrics["loss"] == pytest.approx(expected, abs=1e-4)
    assert expected > math.log(2) + 0.5  # the margin is in it
