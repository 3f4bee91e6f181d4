"""Traditional DPO and SimPO: Stage II's job without its loop, with real engines and training."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIMPO = [
    "dpo.simpo_margin=0.5",
    "dpo.trl.loss_type=sigmoid_norm",
    "dpo.trl.loss_weights=null",
    "dpo.trl.beta=2.0",
]


def run(*overrides):
    done = subprocess.run(
        [sys.executable, "jobs/stage2.py", "conf/miniature/baseline_dpo.yaml", *overrides],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_dpo_on_the_best_and_worst_answers_and_simpo_on_the_same_pairs(short_folder):
    folder = short_folder / "dpo"
    words = [f"run_dir={folder}", "prompts.sample.limit=24", "evaluation.prompts.limit=12"]
    words.append("dpo.trl.logging_steps=1")
    status, text = run(*words)
    assert status == 0, text
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["pair"]["num_pairs"] > 12
    assert summary["sample"]["outputs"]["failures"] == 0  # any text is an answer
    table = [(row["model"], row["rounds"]) for row in summary["evaluate"]["table"]]
    assert table == [("seed", 0), ("dpo", None)]
    assert "baseline dpo" in text and "Stage II" not in text
    assert (folder / "config.yaml").exists()
    status, refused = run(*words, *SIMPO)
    assert status == 1 and "dpo" in refused and "under other settings" in refused
    for step in ("dpo", "evaluate"):
        (folder / f"ledger/{step}.json").unlink()
    (folder / "dpo").rename(short_folder / "the-dpo-model")
    (folder / "evaluate").rename(short_folder / "the-dpo-evaluation")
    status, text = run(*words, *SIMPO, "steps=[sample,pair,dpo]")
    assert status == 0, text
    assert "sample: done before" in text and "pair: done before" in text
    lines = [line for line in text.splitlines() if "dpo: step" in line]
    assert lines and not any("accuracy" in line or "margin" in line for line in lines)
    models = [short_folder / "the-dpo-model", folder / "dpo"]
    weights = [(model / "model.safetensors").read_bytes() for model in models]
    assert weights[0] != weights[1]
