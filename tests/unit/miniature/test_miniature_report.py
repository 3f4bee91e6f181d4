"""The committed gate report belongs to the shipped weights, and the gates that are due pass."""

import json
from pathlib import Path

import pytest

from avr.engines.weights import weights_id

FOLDER = Path("avr/miniature")
REPORT = json.loads((FOLDER / "report.json").read_text())


@pytest.mark.parametrize("role", ["policy", "corrector", "reward"])
def test_report_was_made_with_these_weights(role):
    assert REPORT["weights"][role] == weights_id(str(FOLDER / "models" / role))


@pytest.mark.parametrize("gate", REPORT["gates"], ids=lambda gate: gate["name"])
def test_gate_is_passed_or_an_aim(gate):
    low, high = gate["low"], gate["high"]
    inside = (low is None or gate["value"] >= low) and (high is None or gate["value"] <= high)
    assert gate["passed"] == inside
    assert inside or gate["aim"]


def test_models_are_small_enough_to_ship():
    files = (FOLDER / "models").rglob("*.safetensors")
    assert sum(file.stat().st_size for file in files) <= 12_000_000
