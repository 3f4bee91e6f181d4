"""Baselines and the table, as a replication starts them: real engines, real training."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from avr.pipeline import tables
from avr.storage import location

ROOT = Path(__file__).parents[2]
SIMPO = [
    "dpo.simpo_margin=0.5",
    "dpo.trl.loss_type=sigmoid_norm",
    "dpo.trl.loss_weights=null",
    "dpo.trl.beta=2.0",
]
PROMPTS = ["prompts.sample.limit=24", "dpo.trl.logging_steps=1"]
MODEL = "avr/miniature/models/policy"


def run(job, recipe, *overrides):
    done = subprocess.run(
        [sys.executable, f"jobs/{job}.py", str(recipe), *overrides],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def recipe_in(folder):
    """Traditional DPO, one iteration of Meta-Rewarding, and the table of both, in small."""
    table = yaml.safe_load((ROOT / "conf/miniature/table.yaml").read_text())
    table["entrants"] = {
        "seed": {"model": MODEL, "mode": "refine", "rounds": 1},
        "dpo": {"trained": ["${runs_dir}/dpo/dpo"]},
        "meta": {"trained": ["${runs_dir}/meta/dpo"]},
        "best of n": {"model": MODEL, "best_of": 6, "tokens_of": "seed"},
    }
    table["prompts"]["limit"] = 12
    (folder / "table.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    baseline = {
        "job": "stage2",
        "config": "conf/miniature/baseline_dpo.yaml",
        "overrides": ["evaluation=null", *PROMPTS],
    }
    own = {
        "job": "stage2",
        "config": "conf/miniature/meta_rewarding.yaml",
        "overrides": ["prompts.sample.limit=16"],
    }
    last = {
        "job": "table",
        "config": str(folder / "table.yaml"),
        "overrides": ["runs_dir={folder}"],
    }
    config = {
        "run_dir": str(folder / "runs"),
        "seeds": [0],
        "jobs": {"dpo": baseline, "meta": own, "table": last},
        "orderings": ["seed r0 < dpo"],
    }
    (folder / "replicate.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / "replicate.yaml"


@pytest.fixture(scope="module")
def replicated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("r")
    recipe = recipe_in(folder)
    status, text = run("replicate", recipe)
    assert status == 0, text
    return recipe, folder / "runs", text


def test_the_table_counts_every_answer_and_every_trained_row(replicated):
    _, runs, text = replicated
    table = json.loads((runs / "table.json").read_text())
    rows = {row["row"]: row for row in table["rows"]}
    assert list(rows) == ["seed r0", "seed r1", "dpo", "meta", "best of n"]
    assert {row["num_answers"] for row in rows.values()} == {12}
    for name in ("dpo", "meta"):
        record = json.loads((runs / f"seed-0/{name}/dpo/training.json").read_text())
        assert rows[name]["items"] == record["result"]["num_trained"] > 8
    assert rows["seed r0"]["items"] == 0 and rows["seed r0"]["win_rate"]["mean"] == 50
    assert "| seed r0 < dpo |" in (runs / "table.md").read_text()
    assert "best of n" in text and "seed r0 < dpo" in text
    assert (runs / "seed-0/dpo/config.yaml").exists()
    for picture in ("win_rates.svg", "length_quality.svg"):
        assert "<svg" in (runs / picture).read_text()


def test_best_of_n_spends_no_more_tokens_than_the_entrant_it_is_held_against(replicated):
    _, runs, _ = replicated
    answers = list(tables.read_rows(location(str(runs / "seed-0/table/answers.parquet"))))
    of = {(a["row"], a["prompt"]): a for a in answers}
    prompts = {prompt for _, prompt in of}
    assert len(prompts) == 12 and len(of) == len(answers) == 5 * 12
    for prompt in prompts:
        best, refined = of["best of n", prompt], of["seed r1", prompt]
        assert best["num_tokens"] <= max(refined["num_tokens"], 96)
    chosen, first = (
        [of[row, prompt]["reward"] for prompt in prompts] for row in ("best of n", "seed r0")
    )
    assert sum(chosen) > sum(first)


def test_a_model_that_judges_itself_learns_from_answers_and_judgements(replicated):
    _, runs, _ = replicated
    folder = location(str(runs / "seed-0/meta"))
    outputs = [o for item in tables.read_sets(folder / "sample/outputs") for o in item.outputs]
    assert len(outputs) > 40
    for output in outputs:
        ratings = [judgement.rating for judgement in output.judgements]
        assert output.reward == pytest.approx(sum(ratings) / len(ratings))
    kinds = {row["kind"] for row in tables.read_rows(folder / "pair/rows.parquet", ["kind"])}
    assert kinds == {"output", "judgement"}
    summary = json.loads((runs / "seed-0/meta/summary.json").read_text())
    assert [funnel["name"] for funnel in summary["pair"]["funnels"]] == ["outputs", "judgements"]
    begun = json.loads((runs / "seed-0/meta/ledger/sample.json").read_text())
    assert "policy" in begun["inputs"] and "reward_model" not in begun["inputs"]


def test_a_second_seed_is_pooled_and_what_is_done_is_not_done_again(replicated):
    """A copy of the first seed's runs stands for a second that had the same luck."""
    recipe, runs, _ = replicated
    shutil.copytree(runs / "seed-0", runs / "seed-1")
    first = json.loads((runs / "table.json").read_text())
    status, text = run("replicate", recipe, "seeds=[0,1]")
    assert status == 0, text
    for step, times in (("sample", 4), ("pair", 4), ("dpo", 4), ("answer", 2)):
        assert text.count(f"{step}: done before") == times
    pooled = json.loads((runs / "table.json").read_text())
    for one, two in zip(first["rows"], pooled["rows"], strict=True):
        assert two["num_answers"] == 2 * one["num_answers"]
        for figure in ("items", "quality", "win_rate", "reward_win_rate", "tokens"):
            assert two[figure] == pytest.approx(one[figure])
    assert list(pooled["by_seed"]) == ["0", "1"]
    (claim,) = pooled["orderings"]
    assert claim["by_replication"]["0"] == claim["by_replication"]["1"]


def test_what_was_made_under_other_settings_is_refused_by_the_job_itself(replicated):
    recipe, _, _ = replicated
    status, text = run("replicate", recipe, "jobs.dpo.overrides=[prompts.sample.limit=23]")
    assert status == 1
    assert "step sample of" in text and "under other settings" in text
    assert "ended with status 1; the same command continues" in text
    status, text = run("replicate", recipe, "--plan")
    assert status == 0 and text.count("python ") == 3


def test_who_stops_a_replication_stops_the_job_that_it_started(short_folder):
    recipe = recipe_in(short_folder)
    command = [sys.executable, "jobs/replicate.py", str(recipe)]
    log = (short_folder / "log").open("w")
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    begun, limit = short_folder / "runs/seed-0/dpo/ledger/sample.json", time.monotonic() + 120
    while not begun.exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.2)
    process.terminate()
    assert process.wait(timeout=120) == 130
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"])]
    assert not [c for c in left if c and f"run_dir={short_folder}/runs/seed-0/dpo" in c]


def test_simpo_trains_on_the_same_pairs_without_a_reference(replicated):
    """The baseline's own command continues what the replication began."""
    _, runs, _ = replicated
    folder = runs / "seed-0/dpo"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["pair"]["num_pairs"] > 12
    assert summary["sample"]["outputs"]["failures"] == 0  # any text is an answer
    words = [f"run_dir={folder}", "evaluation=null", *PROMPTS]
    recipe = "conf/miniature/baseline_dpo.yaml"
    status, refused = run("stage2", recipe, *words, *SIMPO)
    assert status == 1 and "dpo" in refused and "under other settings" in refused
    (folder / "ledger/dpo.json").unlink()
    (folder / "dpo").rename(runs / "the-dpo-model")
    status, text = run("stage2", recipe, *words, *SIMPO)
    assert status == 0, text
    assert "sample: done before" in text and "pair: done before" in text
    assert "Baseline" in (folder / "summary.svg").read_text() and "Stage II" not in text
    lines = [line for line in text.splitlines() if "dpo: step" in line]
    assert lines and not any("accuracy" in line or "margin" in line for line in lines)
    models = [runs / "the-dpo-model", folder / "dpo"]
    weights = [(model / "model.safetensors").read_bytes() for model in models]
    assert weights[0] != weights[1]
