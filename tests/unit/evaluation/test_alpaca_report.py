"""805 rows through the report: AlpacaEval's own number, or what it lacks, and all the others."""

import json
import random
import shlex
import sys
from pathlib import Path
from statistics import fmean

import pytest
from evaluations import answered, configured, judged, reported

from avr.evaluation.alpaca import NUM_INSTRUCTIONS
from avr.evaluation.judges import Preference

RECORDS = Path(__file__).parents[4] / "shared/data/alpaca_eval/gpt4_1106_preview.json"
UNANSWERED = range(0, NUM_INSTRUCTIONS, 100)
OWN = "length_controlled_v1"

needs_instructions = pytest.mark.skipif(
    not RECORDS.exists(), reason="needs AlpacaEval's records in ../shared/data"
)


def evaluated(folder, instructions):
    """Made-up answers of which the longer ones win; a few are missing. The report and its lines."""
    generator, texts, preferences = random.Random(0), {}, []
    for row, instruction in enumerate(instructions):
        length = 0 if row in UNANSWERED else generator.randrange(20, 1500)
        texts[instruction] = "x" * length
        won = length and generator.gauss(length, 400) > 500
        preferences.append(1 + 0.9 * won if length else 1.0)
    assert len(texts) == NUM_INSTRUCTIONS
    config = configured(folder, texts)
    rows = [{"instruction": q, "output": "y" * generator.randrange(300, 700)} for q in texts]
    (folder / "baseline.json").write_text(json.dumps(rows))
    answered(config, folder, texts)
    judged(config, folder, map(Preference, preferences))
    figures, lines = reported(config, folder)
    assert figures["rows"] == figures["judged"] == NUM_INSTRUCTIONS
    assert figures["without_answer"] == len(UNANSWERED)
    assert figures["characters"]["mean"] == pytest.approx(fmean(map(len, texts.values())))
    assert figures["baseline_characters"] == pytest.approx(fmean(len(r["output"]) for r in rows))
    rate = figures["win_rate"]
    assert rate["win_rate"] == pytest.approx(100 * fmean(preferences) - 100)
    assert rate["num_wins"] + rate["num_losses"] == NUM_INSTRUCTIONS
    assert rate["low"] < rate["win_rate"] < rate["high"]
    assert figures["lc_noreg"]["lc_noreg"] < rate["win_rate"] - 5  # length is what won
    return figures, lines


def instructions():
    return [record["instruction"] for record in json.loads(RECORDS.read_text())]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf/hub"))
    return tmp_path / "hf/hub"


def test_as_many_prompts_that_are_not_alpaca_evals_do_without_its_number(tmp_path):
    figures, lines = evaluated(tmp_path, [f"q{row}?" for row in range(NUM_INSTRUCTIONS)])
    words = "row 0, 'q0?', is not AlpacaEval's instruction at that place: outputs must be in the"
    assert figures[OWN].startswith(words)
    assert f"{OWN}: {figures[OWN]}" in lines


@needs_instructions
def test_without_the_package_the_report_says_how_to_install_it(tmp_path, monkeypatch):
    bare = tmp_path / "python"  # as an environment that has no packages at all
    bare.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    figures, lines = evaluated(tmp_path, instructions())
    assert figures[OWN] == (
        "no length-controlled win rate: alpaca_eval is not installed: pip install 'avr[evaluation]'"
    )
    assert f"{OWN}: {figures[OWN]}" in lines


@needs_instructions
def test_without_the_anchor_file_the_report_says_how_to_fetch_it(tmp_path, cache):
    figures, lines = evaluated(tmp_path, instructions())
    assert figures[OWN] == (
        "no length-controlled win rate: its anchor file is not on this machine; fetch it once, "
        "where there is a network: hf download tatsu-lab/alpaca_eval df_gamed.csv "
        "--repo-type dataset"
    )
    assert f"{OWN}: {figures[OWN]}" in lines


@needs_instructions
def test_with_anchors_the_number_is_there_and_takes_out_what_length_won(tmp_path, cache):
    """The anchors are made up: AlpacaEval's are downloaded, and not here."""
    repository = cache / "datasets--tatsu-lab--alpaca_eval"
    for folder in ("refs", "snapshots/0"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs/main").write_text("0")
    lines = ["model,index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline"]
    generator = random.Random(1)
    for name, sign in (("verbose", -1), ("concise", 1)):
        for row in range(NUM_INSTRUCTIONS):
            delta, difficulty = sign * generator.uniform(0.2, 1.5), generator.gauss(0, 1)
            lines.append(f"{name},{row},{0.5 - sign * 0.1},{delta},{difficulty},False")
    (repository / "snapshots/0/df_gamed.csv").write_text("\n".join(lines))
    figures, lines = evaluated(tmp_path, instructions())
    own, rate = figures[OWN], figures["win_rate"]["win_rate"]
    assert own["weights"]["theta"] < 0  # of the baseline's length less ours
    assert 0 < own["standard_error"] < 5
    assert own["win_rate"] < rate - 5
    assert f"{OWN} {own['win_rate']:.1f}%" in lines
