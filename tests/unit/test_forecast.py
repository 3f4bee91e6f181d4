"""What a run will take, from what a small one took."""

import json

import pytest

from avr.config import ConfigError
from avr.pipeline.forecast import GIB, forecast


@pytest.fixture
def probe(tmp_path):
    summary = {
        "grow_rsft": {"input": {"num_prompts": 50}, "trees": {"tokens": 10_000}},
        "rsft": {"num_steps": 8},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "device_hours.json").write_text(json.dumps({"grow_rsft": 0.5}))
    (tmp_path / "rsft.training").mkdir()
    (tmp_path / "rsft").mkdir()
    (tmp_path / "rsft" / "model.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "rsft.training" / "log").write_bytes(b"x" * 24)
    return tmp_path


def test_everything_grows_with_the_prompts_of_the_step_that_reads_them(probe):
    steps = {"grow_rsft": ("grow_rsft", 5000), "rsft": ("grow_rsft", 5000)}
    grow, rsft = forecast(steps, probe)
    assert (grow.tokens, grow.device_hours, grow.gib) == (1_000_000, 50.0, 0.0)
    assert (rsft.tokens, rsft.device_hours) == (None, None)
    assert rsft.gib == pytest.approx(1024 * 100 / GIB)


def test_steps_that_the_small_run_did_not_do_are_unknown(probe):
    steps = {"grow_dpo": ("grow_dpo", 10), "dpo": ("grow_dpo", 10)}
    assert all(
        (row.prompts, row.tokens, row.device_hours, row.gib) == (10, None, None, None)
        for row in forecast(steps, probe)
    )


def test_a_directory_without_a_finished_run_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no run that has come to its summary"):
        list(forecast({}, tmp_path))
