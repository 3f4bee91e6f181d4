"""AlpacaEval's package behind the guard: its own fit, nothing left behind, clear words."""

import csv
import json
import random
import sys
from pathlib import Path

import pytest

from avr.evaluation.alpaca import AlignmentError, predict_lc
from avr.evaluation.length_control import LengthControlUnavailable, length_controlled

FIXTURE = Path(__file__).parents[4] / "shared/data/lc_fixture"
RECORDS = FIXTURE.parent / "alpaca_eval/gpt4_1106_preview.json"
INSTRUCTIONS = (
    [one["instruction"] for one in json.loads(RECORDS.read_text())] if FIXTURE.exists() else []
)
MODEL = "FuseChat-Llama-3.1-8B-Instruct"

pytestmark = pytest.mark.skipif(
    not FIXTURE.exists(), reason="needs AlpacaEval's published numbers in ../shared/data/lc_fixture"
)


@pytest.fixture(scope="module")
def rows():
    with (FIXTURE / "lc_fixture.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def anchored(tmp_path, monkeypatch, rows):
    """A Hugging Face cache with made-up anchor rows: theirs are downloaded, and not here."""
    repository = tmp_path / "hub/datasets--tatsu-lab--alpaca_eval"
    snapshot = repository / "snapshots/0"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0")
    generator = random.Random(0)
    columns = "model,index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline"
    lines = [columns]
    for name, sign in (("verbose", -1), ("concise", 1)):
        for index, row in enumerate(rows):
            delta = sign * generator.uniform(0.2, 1.5)
            lines.append(
                f"{name},{index},{0.5 - sign * 0.1},{delta},{row['instruction_difficulty']},False"
            )
    (snapshot / "df_gamed.csv").write_text("\n".join(lines))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def asked(rows, **changes):
    arguments = {
        "preferences": [float(row[f"{MODEL}:preference"]) for row in rows],
        "outputs": ["x" * int(row[f"{MODEL}:len"]) for row in rows],
        "baseline_outputs": ["x" * int(row["len_baseline"]) for row in rows],
        "instructions": INSTRUCTIONS,
    }
    return length_controlled(**arguments | changes)


def files_of(package):
    folder = Path(sys.prefix) / f"lib/python3.11/site-packages/{package}"
    return {f: f.stat().st_mtime for f in folder.rglob("*") if "__pycache__" not in str(f)}


def test_the_package_fits_and_our_prediction_from_its_weights_is_its_number(rows, anchored):
    before = files_of("alpaca_eval")
    got = asked(rows)
    assert files_of("alpaca_eval") == before != {}
    assert "sklearn" not in sys.modules or not sklearn_routing()
    difficulties = [float(row["instruction_difficulty"]) for row in rows]
    assert predict_lc(got.weights, difficulties) == pytest.approx(got.win_rate, abs=1e-6)
    # The anchors are not AlpacaEval's, so the number is near the published one and not equal.
    published = json.loads((FIXTURE / "expected.json").read_text())[MODEL]
    assert got.win_rate == pytest.approx(published["length_controlled_winrate"], abs=3)
    assert got.standard_error == pytest.approx(published["lc_standard_error"], abs=0.3)


def sklearn_routing():
    import sklearn

    return sklearn.get_config()["enable_metadata_routing"]


def test_without_the_anchor_file_it_says_how_to_fetch_it(rows, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(
        LengthControlUnavailable,
        match=r"hf download tatsu-lab/alpaca_eval df_gamed.csv --repo-type dataset",
    ):
        asked(rows)
    assert not list(tmp_path.iterdir())


def test_rows_out_of_place_never_reach_it(rows):
    with pytest.raises(AlignmentError, match="row 5, "):
        asked(rows, instructions=INSTRUCTIONS[:5] + INSTRUCTIONS[6:])
