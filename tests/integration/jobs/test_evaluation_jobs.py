"""jobs/evaluate.py and jobs/refine.py with real engines; a judge on vLLM's own OpenAI server."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "avr/miniature/models"
GPT4O = ROOT.parent / "shared/data/alpaca_eval/gpt-4o-2024-05-13.json"
OUTPUTS = {"prompt_field": "instruction", "answer_field": "output"}


def command(job, recipe, *overrides):
    return [sys.executable, f"jobs/{job}.py", f"conf/miniature/{recipe}.yaml", *overrides]


def run(job, recipe, *overrides, env=None):
    done = subprocess.run(
        command(job, recipe, *overrides),
        cwd=ROOT,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def killed_once_committed(words, journal, least):
    """Start a job, SIGKILL it when so many queries are committed; how many there were."""
    job = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and job.poll() is None:
        lines = sum(f.read_text().count("\n") for f in journal.glob("*.jsonl"))
        if lines >= least:
            job.send_signal(signal.SIGKILL)
            job.wait()
            return lines
        time.sleep(0.1)
    raise AssertionError(f"not killed: the job ended with {job.poll()}")


@pytest.fixture(scope="module")
def seed(short_folder):
    """The seed's answers to 24 held-out prompts, of which one is broken and one there twice."""
    heldout = (ROOT / "avr/miniature/data/heldout.jsonl").read_text().splitlines()[:24]
    prompts = short_folder / "prompts.jsonl"
    prompts.write_text("\n".join([*heldout, '{"prompt": ""}', heldout[0]]) + "\n")
    folder = short_folder / "seed"
    status, text = run("evaluate", "baseline", f"prompts.path={prompts}", f"run_dir={folder}")
    assert status == 0, text
    return prompts, folder


def test_answers_are_in_alpaca_evals_format_one_for_every_row(seed):
    prompts, folder = seed
    rows = [json.loads(line) for line in prompts.read_text().splitlines()]
    outputs = json.loads((folder / "outputs.json").read_text())
    assert [one["instruction"] for one in outputs] == [row["prompt"] for row in rows]
    assert all(one["generator"] == "seed" for one in outputs)
    assert [n for n, one in enumerate(outputs) if not one["output"]] == [24]
    assert outputs[25]["output"] == outputs[0]["output"]
    report = json.loads((folder / "report.json").read_text())
    assert (report["rows"], report["without_answer"]) == (26, 1)
    assert "win_rate" not in report


@pytest.fixture(scope="module")
def refined(seed, short_folder):
    """Its answers refined by the corrector."""
    _, baseline = seed
    folder = short_folder / "refined"
    words = [f"answers.path={baseline}/outputs.json", f"run_dir={folder}"]
    status, text = run("refine", "refine", *words)
    assert status == 0, text
    return baseline, folder


@pytest.mark.long
def test_a_stronger_model_helps_and_every_row_is_accounted_for(refined):
    baseline, folder = refined
    before = json.loads((baseline / "outputs.json").read_text())
    after = json.loads((folder / "answers.json").read_text())
    assert [one["instruction"] for one in after] == [one["instruction"] for one in before]
    report = json.loads((folder / "report.json").read_text())
    assert report["rows"] == 26 == report["refined"] + sum(report["as_they_were"].values())
    # The empty answer, and the second of two to one prompt.
    assert sum("the same prompt as" in reason for reason in report["as_they_were"]) == 1
    for was, now in zip(before, after, strict=True):
        assert (now["refined"]["rounds"] > 0) == (now["output"] != was["output"])
        assert now["refined"]["gain"] is None or now["refined"]["gain"] >= 0
    assert report["oracle"]["difference"]["low"] > 0


@pytest.fixture(scope="module")
def compared(seed, short_folder):
    """The corrector's answers judged by the oracle against the seed's: the command, its folder."""
    prompts, baseline = seed
    good = short_folder / "good.jsonl"  # the baseline's other rows, one of no use, do no harm
    good.write_text("\n".join(prompts.read_text().splitlines()[:24]))
    words = [
        f"prompts.path={good}",
        f"baseline.path={baseline}/outputs.json",
        f"policy.model={MODELS}/corrector",
        "mode=plain",
        "rounds=0",
        "name=corrector",
    ]
    folder = short_folder / "good"
    status, text = run("evaluate", "evaluate", *words, f"run_dir={folder}")
    assert status == 0, text
    return words, folder


def test_the_oracle_judges_and_a_second_run_does_nothing(seed, compared, short_folder):
    prompts, _ = seed
    words, folder = compared
    refused = short_folder / "refused"
    of_all = [f"prompts.path={prompts}", *words[1:], f"run_dir={refused}"]
    status, text = run("evaluate", "evaluate", *of_all)
    assert status == 1, text
    assert "cannot be used (field 'prompt' is empty), and there is no win rate without" in text
    assert not refused.exists()
    report = json.loads((folder / "report.json").read_text())
    assert report["win_rate"]["win_rate"] > 60  # the corrector is much the better
    assert report["judge"]["name"] == "oracle avr.miniature.oracle:quality"
    status, text = run("evaluate", "evaluate", *words, f"run_dir={folder}")
    assert status == 0, text
    assert "answer: done before" in text and "judge: done before" in text
    assert json.loads((folder / "report.json").read_text()) == report
    other = ["steps=[judge]", "tree.max_tries=2", f"run_dir={folder}"]
    status, text = run("evaluate", "evaluate", *words, *other)
    assert status == 1 and "step answer of" in text and "under other settings" in text


@pytest.mark.long
def test_a_reward_model_judges_whole_outputs_of_arena_hard_s_format(seed, short_folder):
    """The corrector was never taught to think by itself: what has no final answer loses."""
    prompts, _ = seed
    questions, records = short_folder / "questions.jsonl", short_folder / "records.jsonl"
    rows = [json.loads(line) for line in prompts.read_text().splitlines()[:8]]
    questions.write_text(
        "".join(json.dumps(r | {"uid": f"q{n}"}) + "\n" for n, r in enumerate(rows))
    )
    said = [{"question_id": f"q{n}", "choices": [{"turns": [{"content": "no"}]}]} for n in range(8)]
    records.write_text("".join(json.dumps(one) + "\n" for one in said))
    engine = "{dtype: float32, enforce_eager: true, max_model_len: 512}"
    reward = f"{{model: {MODELS}/reward, use_gpu: false, engine: {engine}}}"
    folder = short_folder / "arena"
    status, text = run(
        "evaluate",
        "evaluate",
        f"prompts.path={questions}",
        f"baseline.path={records}",
        "baseline.answer_field=null",
        f"policy.model={MODELS}/corrector",
        "mode=recursive",
        "rounds=0",
        "format=arena_hard",
        "name=tiny",
        "judge.kind=reward_model",
        f"judge.reward_model={reward}",
        "judge.reward_model.env.VLLM_CPU_KVCACHE_SPACE='1'",
        f"run_dir={folder}",
    )
    assert status == 0, text
    written = [json.loads(line) for line in (folder / "tiny.jsonl").read_text().splitlines()]
    assert [one["uid"] for one in written] == [f"q{n}" for n in range(8)]
    report = json.loads((folder / "report.json").read_text())
    assert report["win_rate"]["num_prompts"] == report["judged"] == 8
    assert report["without_answer"] == sum(
        not r["choices"][0]["turns"][0]["content"] for r in written
    )
    assert sum(report["failures"].values()) == report["without_answer"]
    assert "VLLM_CPU_KVCACHE_SPACE: (not shown)" in (folder / "config.yaml").read_text()


@pytest.fixture(scope="module")
def server():
    """vLLM's OpenAI server with a tiny model that can say nothing but a verdict."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--port", str(port)]
    words += ["--model", str(MODELS / "policy"), "--served-model-name", "tiny"]
    words += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "4096"]
    log = subprocess.Popen(
        words, env=os.environ | environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    while True:
        try:
            if requests.get(f"{url}/health", timeout=1).ok:
                break
        except requests.RequestException:
            pass
        assert log.poll() is None and time.monotonic() < deadline, "the server did not start"
        time.sleep(0.5)
    yield f"{url}/v1"
    log.terminate()
    log.wait()


@pytest.mark.long
def test_a_real_server_judges_both_orders(compared, short_folder, server):
    """Judging alone: the answers are there, so no engine of ours has to start."""
    words, answered = compared
    folder = short_folder / "served"
    shutil.copytree(answered, folder)
    shutil.rmtree(folder / "judge")
    (folder / "ledger/judge.json").unlink()
    verdicts = ["[[A>>B]]", "[[A>B]]", "[[A=B]]", "[[B>A]]", "[[B>>A]]"]
    request = {"max_tokens": 16, "extra_body": {"structured_outputs": {"choice": verdicts}}}
    words = [
        *words,
        f"run_dir={folder}",
        "judge.kind=endpoint",
        f"judge.endpoint.base_url={server}",
        f"judge.endpoint.request={json.dumps(request)}",
        "judge.endpoint.price_prompt=10",
    ]
    status, text = run("evaluate", "evaluate", *words, "judge.endpoint.model=nobody")
    assert status == 1
    assert "answers 404" in text and "nobody" in text
    shutil.rmtree(folder / "judge")
    (folder / "ledger/judge.json").unlink()
    status, text = run("evaluate", "evaluate", *words, "judge.endpoint.model=tiny")
    assert status == 0, text
    assert "answer: done before" in text
    report = json.loads((folder / "report.json").read_text())
    judge = report["judge"]
    assert report["judged"] == 24
    assert judge["prompt_tokens"] > 48 * 100  # each question twice, with both answers in each
    assert judge["completion_tokens"] > 0
    assert judge["cost"] == pytest.approx(judge["prompt_tokens"] * 10 / 1e6)
    assert "tiny at http://127.0.0.1" in judge["name"]


@pytest.mark.long
@pytest.mark.skipif(not GPT4O.exists(), reason="needs published answers in ../shared/data")
def test_published_answers_are_refined_killed_and_resumed(short_folder):
    """The tiny model's words are nonsense there; the job, its resume and accounting are real."""
    folder = short_folder / "gpt4o"
    words = command(
        "refine",
        "refine",
        f"answers.path={GPT4O}",
        "answers.limit=40",
        "rounds=1",
        "oracle=null",
        "reward_model=null",  # no gate: it is the stronger model's answers above that pass one
        f"run_dir={folder}",
        "queries.queries_per_task=4",
        "queries.max_queries_in_flight=8",
    )
    committed = killed_once_committed(words, folder / "refine/model/journal", 5)
    status, text = run("refine", "refine", *words[3:])
    assert status == 0, text
    rows = json.loads(GPT4O.read_text())[:40]
    after = json.loads((folder / "answers.json").read_text())
    report = json.loads((folder / "report.json").read_text())
    assert [one["instruction"] for one in after] == [one["instruction"] for one in rows]
    assert report["rows"] == 40 == report["refined"] + sum(report["as_they_were"].values())
    result = json.loads((folder / "ledger/refine.json").read_text())["result"]
    assert result["queries"]["model"]["num_resumed"] >= committed >= 5
    for was, now in zip(rows, after, strict=True):
        if not now["refined"]["rounds"]:
            assert now["output"] == was["output"] and now["refined"]["reason"]
