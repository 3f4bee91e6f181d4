"""A baseline and the table, as a replication starts them: real engines, real training."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml

from avr.core.tree import tree_to_dict
from avr.data import schemas, tables
from avr.storage import location

pytestmark = [pytest.mark.integration, pytest.mark.long]
ROOT = Path(__file__).parents[3]
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
    """One iteration of Meta-Rewarding and the table with it, in small."""
    table = yaml.safe_load((ROOT / "conf/miniature/table.yaml").read_text())
    table["entrants"] = {
        "seed": {"model": MODEL, "mode": "refine", "rounds": 1},
        "meta": {"trained": ["${runs_dir}/meta/dpo"]},
        "best of n": {"model": MODEL, "best_of": 6, "tokens_of": "seed"},
    }
    table["prompts"]["limit"] = 12
    (folder / "table.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    own = {
        "job": "baseline",
        "config": "conf/miniature/meta_rewarding.yaml",
        "overrides": ["prompts.sample.limit=16"],
    }
    again = {**own, "overrides": [*own["overrides"], "steps=[sample,pair]"]}
    last = {
        "job": "table",
        "config": str(folder / "table.yaml"),
        "overrides": ["runs_dir={folder}"],
    }
    config = {
        "run_dir": str(folder / "runs"),
        "seeds": [0],
        "jobs": {"meta": own, "again": {**again, "takes": {"sample": "meta"}}, "table": last},
        "orderings": ["seed r0 < meta"],
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
    assert list(rows) == ["seed r0", "seed r1", "meta", "best of n"]
    assert {row["num_answers"] for row in rows.values()} == {12}
    record = json.loads((runs / "seed-0/meta/dpo/training.json").read_text())
    assert rows["meta"]["items"] == record["result"]["num_trained"] > 8
    assert rows["seed r0"]["items"] == 0 and rows["seed r0"]["win_rate"]["mean"] == 50
    assert "| seed r0 < meta |" in (runs / "table.md").read_text()
    assert "best of n" in text and "seed r0 < meta" in text
    assert (runs / "seed-0/table/config.yaml").exists()
    for picture in ("win_rates.svg", "length_quality.svg"):
        assert "<svg" in (runs / picture).read_text()


def test_best_of_n_spends_no_more_tokens_than_the_entrant_it_is_held_against(replicated):
    _, runs, _ = replicated
    answers = list(tables.read_rows(location(str(runs / "seed-0/table/answers.parquet"))))
    of = {(a["row"], a["prompt"]): a for a in answers}
    prompts = {prompt for _, prompt in of}
    assert len(prompts) == 12 and len(of) == len(answers) == 4 * 12
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
    assert begun["inputs"]["policy"] and begun["inputs"]["reward"] is None


def test_a_job_takes_what_another_has_made_and_not_under_other_settings(replicated):
    recipe, runs, text = replicated
    first, second = (location(str(runs / f"seed-0/{name}")) for name in ("meta", "again"))
    assert f"sample: taken from {first}" in text and "sample: done before, in 0 s" in text
    pairs = [list(tables.read_rows(run / "pair/rows.parquet")) for run in (first, second)]
    assert pairs[0] == pairs[1]
    shutil.rmtree(second)
    words = '["prompts.sample.limit=16","steps=[sample,pair]","seed=3"]'
    status, text = run("replicate", recipe, f"jobs.again.overrides={words}")
    assert status == 1
    assert f"step sample was taken from {first}, made under other settings (seed: 0 -> 3" in text
    shutil.rmtree(second)  # for a later run, which takes it as the recipe says


def test_a_second_seed_is_pooled_and_what_is_done_is_not_done_again(replicated):
    """A copy of the first seed's runs stands for a second: more rows, answers that are worse."""
    recipe, runs, _ = replicated
    shutil.copytree(runs / "seed-0", runs / "seed-1")
    record = runs / "seed-1/meta/dpo/training.json"
    trained = json.loads(record.read_text())
    trained["result"]["num_trained"] += 10
    record.write_text(json.dumps(trained))
    say_nothing_right(location(str(runs / "seed-1/table/answer/meta/trees")))
    first = json.loads((runs / "table.json").read_text())
    status, text = run("replicate", recipe, "seeds=[0,1]")
    assert status == 0, text
    # The job that takes its samples was removed above: it takes them once more, and pairs them.
    for step, times in (("sample", 4), ("pair", 2), ("dpo", 2), ("answer", 2)):
        assert text.count(f"{step}: done before") == times
    pooled = json.loads((runs / "table.json").read_text())
    for one, two in zip(first["rows"], pooled["rows"], strict=True):
        assert two["num_answers"] == 2 * one["num_answers"]
        changed = one["row"] == "meta"
        assert two["items"] == one["items"] + 5 * changed
        assert two["tokens"] == pytest.approx(one["tokens"])
        assert two["quality"]["mean"] == pytest.approx(one["quality"]["mean"] / (1 + changed))
        assert (two["quality"] == pytest.approx(one["quality"])) != changed
    assert list(pooled["by_seed"]) == ["0", "1"]
    (claim,) = pooled["orderings"]
    assert claim["by_replication"]["0"] == first["orderings"][0]["difference"]["mean"]
    assert claim["by_replication"]["1"] < min(0, claim["by_replication"]["0"])


def say_nothing_right(folder):
    """Every first answer becomes one that the oracle gives nothing for."""
    trees = list(tables.read_trees(folder))
    shutil.rmtree(folder)
    rows = [tree_to_dict(replace(t, response=replace(t.first, text="no list"))) for t in trees]
    tables.write_part(folder, "one", rows, schemas.TREES)


def test_what_was_made_under_other_settings_is_refused_by_the_job_itself(replicated):
    recipe, _, _ = replicated
    status, text = run("replicate", recipe, "jobs.meta.overrides=[prompts.sample.limit=15]")
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
    begun, limit = short_folder / "runs/seed-0/meta/ledger/sample.json", time.monotonic() + 120
    while not begun.exists():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.2)
    process.terminate()
    assert process.wait(timeout=120) == 130
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"])]
    assert not [c for c in left if c and f"run_dir={short_folder}/runs/seed-0/meta" in c]


def test_traditional_dpo_pairs_the_best_and_the_worst_of_plain_answers(short_folder):
    """The recipe up to its training, which is that of any DPO; SimPO's recipe changes that alone.

    Then with second pairs, of the same outputs.
    """
    folder = short_folder / "dpo"
    words = [f"run_dir={folder}", "steps=[sample,pair]", "prompts.sample.limit=16"]
    status, text = run("baseline", "conf/miniature/baseline_dpo.yaml", *words)
    assert status == 0, text
    sets = {item.id: item for item in tables.read_sets(location(str(folder)) / "sample/outputs")}
    assert len(sets) == 16
    assert not any(item.failures for item in sets.values())  # any text is an answer
    rows = list(tables.read_rows(location(str(folder)) / "pair/rows.parquet"))
    assert len(rows) > 8
    for row in rows:
        of_set, best, worst = row["node_ids"]
        rewards = {output.id: output.reward for output in sets[of_set].outputs}
        assert rewards[best] == max(rewards.values()) > min(rewards.values()) == rewards[worst]
    more = ["pairs.per_prompt=2", f"pairs.max_pairs={len(rows) + 4}"]
    status, text = run("baseline", "conf/miniature/baseline_dpo.yaml", *words, *more)
    assert status == 1
    assert "pair" in text and "under other settings (numbers.max_pairs: null -> " in text
    shutil.rmtree(folder / "pair")
    (folder / "ledger/pair.json").unlink()
    status, text = run("baseline", "conf/miniature/baseline_dpo.yaml", *words, *more)
    assert status == 0, text
    again = list(tables.read_rows(location(str(folder)) / "pair/rows.parquet"))
    assert again[: len(rows)] == rows and len(again) == len(rows) + 4
    seconds = [row["node_ids"] for row in again[len(rows) :]]
    assert len({nodes[0] for nodes in seconds}) == 4
    for of_set, better, worse in seconds:
        rewards = {output.id: output.reward for output in sets[of_set].outputs}
        ranked = sorted(rewards, key=rewards.get)
        assert (better, worse) == (ranked[-2], ranked[1])
