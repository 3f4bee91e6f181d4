"""Stage I as a user runs it: the job as a process, real engines, real training, and kills.

Its run directory is on an object store; that of Stage II's test is a folder.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from looked_at import assert_rows_say_what_their_trees_say
from planted_secrets import SECRETS

from avr.data.tables import read_ids, read_rows, read_trees
from avr.storage import local_copy, location

pytestmark = pytest.mark.integration
NUM_PROMPTS, NUM_HELDOUT = 32, 8
MIN_MARGIN = 0.1
PLANTED = "planted-in-settings-444"


# On purpose: kills must land in the middle of a growth.
SLOW = ("policy.max_rows_per_replica=2", "corrector.max_rows_per_replica=2")
LESS_SLOW = ("policy.max_rows_per_replica=8", "corrector.max_rows_per_replica=8")


def command(run_dir, *more):
    return [
        sys.executable,
        "jobs/stage1.py",
        "conf/miniature/stage1.yaml",
        f"run_dir={run_dir}",
        f"prompts.rsft.limit={NUM_PROMPTS}",
        f"prompts.dpo.limit={NUM_PROMPTS}",
        f"evaluation.prompts.limit={NUM_HELDOUT}",
        "growth.rows_per_block=2",
        f"pairs.min_margin={MIN_MARGIN}",
        "rsft.trl.num_train_epochs=1",
        "rsft.trl.save_steps=1",
        f"policy.env.TOKEN={PLANTED}",
        *more,
    ]


def start(run_dir, log, scratch, *more):
    return subprocess.Popen(
        command(run_dir, *more),
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=log.open("a"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_for(happened, job, log):
    deadline = time.monotonic() + 900
    while not happened():
        assert job.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, store, short_folder):
    """A run whose driver was killed while it grew trees, and an engine after that.

    Returns the run directory, the trees that were committed before the driver died, and what both
    runs printed.
    """
    run_dir = location(f"{store}/stage1")
    log = tmp_path_factory.mktemp("stage1") / "log"
    trees = run_dir / "grow_rsft" / "trees"
    job = start(run_dir, log, short_folder, *SLOW)
    wait_for(lambda: list(trees.glob("*.parquet")), job, log)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    (run_dir / ".lock").unlink()  # waiting for a dead job's is tested in test_object_store.py
    committed = read_ids(trees)
    job = start(run_dir, log, short_folder, *LESS_SLOW)
    # The engine's log is there as soon as it serves; once trees are, it may have done its part.
    serving = run_dir / "grow_dpo" / "logs"
    wait_for(lambda: list(serving.glob("grow_dpo-policy-*.log")), job, log)
    # Not looked for once: what a process is called and writes to is not there in one moment.
    wait_for(lambda: kill_an_engine(job.pid, "grow_dpo-policy"), job, log)
    assert job.wait(1200) == 0, log.read_text()[-3000:]
    return run_dir, committed, log.read_text()


def kill_an_engine(job_pid, pool):
    """SIGKILL the vLLM engine core that belongs to a worker of the pool, if one is seen."""
    for process in psutil.Process(job_pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # gone, or a zombie: those of the step before
            log = Path(f"/proc/{process.pid}/fd/1").resolve()
            if "EngineCore" in " ".join(process.cmdline()) and log.name.startswith(f"{pool}-"):
                process.kill()
                return True
    return False


def test_killed_job_continues_and_ends_with_every_tree_once(finished):
    run_dir, committed, _ = finished
    assert 0 < len(committed) < NUM_PROMPTS
    folder = run_dir / "grow_rsft"
    wanted = read_ids(folder / "seedlings.parquet")
    trees = list(read_trees(folder / "trees"))  # raises on an id that is there twice
    assert len(wanted) == NUM_PROMPTS
    assert {tree.id for tree in trees} | read_ids(folder / "quarantine") == wanted
    assert committed <= wanted
    summary = json.loads((run_dir / "summary.json").read_text())
    # Workers outlive their driver for a moment, and what they commit then counts too.
    assert len(committed) <= summary["grow_rsft"]["growth"]["num_resumed"] < NUM_PROMPTS


def test_engine_that_is_killed_is_replaced_and_named(finished):
    run_dir, _, output = finished
    summary = json.loads((run_dir / "summary.json").read_text())
    assert summary["grow_dpo"]["growth"]["engine_deaths"] == {"policy": 1}
    assert summary["grow_dpo"]["growth"]["num_trees"] == NUM_PROMPTS
    assert "an engine died (policy:" in output


def test_an_engine_that_was_stopped_is_not_called_dead_in_its_log(finished):
    logs = list((finished[0] / "evaluate" / "logs").glob("evaluate-*.log"))
    assert logs
    assert not [log for log in logs if "EngineDeadError" in log.read_text()]


def test_trees_are_whole(finished):
    run_dir, _, _ = finished
    for step in ("grow_rsft", "grow_dpo"):
        for tree in read_trees(run_dir / step / "trees"):
            assert all(response.reward is not None for response in tree.responses())
            (level,) = tree.levels
            assert level.num_dropped == 2 - len(level.critiques)
            missing = sum(2 - len(c.refinements) for c in level.critiques)
            assert level.num_dropped_refinements == missing
            assert level.of == tree.first.id


def test_rows_say_what_the_trees_say(finished):
    assert_rows_say_what_their_trees_say(finished[0])


def test_dpo_trees_are_grown_by_the_rsft_model_on_other_prompts(finished):
    run_dir, _, _ = finished
    queries = [
        {tree.prompt.id for tree in read_trees(run_dir / step / "trees")}
        for step in ("grow_rsft", "grow_dpo")
    ]
    assert not queries[0] & queries[1]
    assert len(queries[1]) == NUM_PROMPTS


def test_pairs_lie_as_far_apart_as_was_asked_for(finished):
    pairs = list(read_rows(finished[0] / "pair" / "rows.parquet"))
    assert pairs
    assert min(pair["margin"] for pair in pairs) > MIN_MARGIN


def test_summary_accounts_for_everything(finished):
    run_dir, _, output = finished
    summary = json.loads((run_dir / "summary.json").read_text())
    for step in ("grow_rsft", "grow_dpo"):
        growth = summary[step]["growth"]
        assert growth["num_trees"] + growth["num_quarantined"] == NUM_PROMPTS
    for funnel in [summary["select"]["funnel"], *summary["pair"]["funnels"].values()]:
        assert funnel["in"] == funnel["out"] + sum(funnel["removed"].values())
    for step in ("rsft", "dpo"):
        assert summary[step]["num_rows"] == summary[step]["num_trained"]
        assert summary[step]["num_steps"] > 0
    rows = {(row["model"], row["rounds"]): row for row in summary["evaluate"]["table"]}
    assert set(rows) == {
        *(("seed", k) for k in (0, 1)),
        *(("rsft", k) for k in (0, 1)),
        *(("dpo", k) for k in (0, 1, 2)),
    }
    assert all(row["num_prompts"] == NUM_HELDOUT for row in rows.values())
    assert rows["seed", 0]["oracle"]["over_seed"] == [0.0, 0.0, 0.0]
    assert output.count(f"committed {NUM_PROMPTS}/{NUM_PROMPTS}") >= 2
    for title in ("Trees", "From trees to training rows", "Held-out prompts"):
        assert title in output


def test_models_are_trained_and_plain(finished):
    run_dir, _, _ = finished
    from safetensors.torch import load_file

    seed = load_file("avr/miniature/models/policy/model.safetensors")
    with local_copy(run_dir / "rsft") as first, local_copy(run_dir / "dpo") as second:
        rsft, dpo = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert set(rsft) == set(dpo) == set(seed) - {"lm_head.weight"}  # tied: it need not be written
    assert any((rsft[name].float() != seed[name].float()).any() for name in rsft)
    assert any((dpo[name].float() != rsft[name].float()).any() for name in rsft)


def test_third_run_does_nothing(finished):
    run_dir, _, _ = finished

    def versions():
        found = run_dir.fs.find(run_dir.path, detail=True).items()
        return {path: info["LastModified"] for path, info in found if path.endswith(".parquet")}

    before = versions()
    run = subprocess.run(command(run_dir), capture_output=True, text=True, check=True)
    assert run.stdout.count("done before") == 7
    assert before and versions() == before


def test_no_secret_is_written_down(finished, short_folder):
    run_dir, _, output = finished
    said = {"output": output.encode()}
    said |= run_dir.fs.cat(run_dir.fs.find(run_dir.path))
    said |= {str(f): f.read_bytes() for f in (short_folder / f"avr-{os.getuid()}").rglob("*.log")}
    assert {"config.yaml", "training.json", "rank-0.log"} <= {Path(name).name for name in said}
    assert any("/grow_rsft/logs/grow_rsft-policy-" in name for name in said)
    assert any(name.startswith(str(short_folder)) for name in said)
    for secret in (PLANTED, *SECRETS.values()):
        assert [name for name, text in said.items() if secret.encode() in text] == []


def test_what_lies_in_the_store_is_no_pickle(finished):
    run_dir, _, _ = finished
    kinds = {Path(name).suffix for name in run_dir.fs.find(run_dir.path)}
    assert kinds <= {".parquet", ".json", ".jsonl", ".jinja", ".safetensors", ".yaml"} | {
        ".svg",
        ".log",
        ".0",  # TensorBoard
    }


def test_run_directory_is_not_continued_under_other_settings(finished):
    run_dir, _, _ = finished
    changed = command(run_dir, "tree.num_critiques=3")
    run = subprocess.run(changed, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "tree.num_critiques: 2 -> 3" in run.stderr
