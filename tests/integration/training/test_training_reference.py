"""DPO's reference: its log-probabilities are computed once, whatever happens afterwards."""

import time
from dataclasses import replace

import pytest
import training_models as tm
from test_training_runs import Killer

from avr.training.job import TrainingError
from avr.training.launch import train
from avr.training.methods.dpo import Dpo

pytestmark = [pytest.mark.integration, pytest.mark.long]
DPO = {"max_steps": 16, "save_strategy": "steps", "save_steps": 4, "precompute_ref_log_probs": True}


def test_a_dpo_that_is_killed_finds_its_reference_again(ray_cluster, tmp_path):
    tm.write_model(tmp_path / "model")
    rows = tm.write_rows(tmp_path / "dpo.parquet", [tm.dpo_row(i) for i in range(64)])
    output, training = tmp_path / "dpo", tmp_path / "dpo.training"
    config = replace(tm.on_cpus(DPO), max_failures=1)

    def cached():
        return {file: file.stat().st_mtime for file in training.rglob("cache-*.arrow")}

    began = time.time()
    killers = [Killer(training / "logs", rank=1, step=4), Killer(training / "logs", 0, 12)]
    with pytest.raises(TrainingError, match=r"rank \d failed"):
        train("dpo", Dpo(), config, tmp_path / "model", rows, output)
    assert all(killer.killed for killer in killers)
    (file,) = cached()  # of another fingerprint there would be a second one
    assert began < cached()[file] < killers[0].at < killers[1].at
    result = train("dpo", Dpo(), config, tmp_path / "model", rows, output)
    assert result.num_steps == 16 and result.metrics["rewards/margins"] > 0.1
    assert not cached()
