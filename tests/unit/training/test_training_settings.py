"""Settings, fingerprints and failure causes: all without ray, torch or trl."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avr.config.errors import ConfigError
from avr.config.training import TrainingConfig
from avr.storage import is_remote, location
from avr.training import worker
from avr.training.failures import explain, first_cause, headline
from avr.training.job import (
    RECORD,
    TrainingResult,
    begun,
    fingerprint_of,
    finished_result,
    job_of,
)
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft
from avr.training.methods.simpo import Simpo
from avr.training.settings import OWNED, check_deepspeed, check_names, check_seed

KNOWN = ["learning_rate", "max_length", "packing", "packing_strategy", *OWNED]


def test_unknown_trl_field_names_the_field_that_was_probably_meant():
    with pytest.raises(
        ConfigError, match=r"rsft\.trl\.learning_rat .*did you mean 'learning_rate'"
    ):
        check_names("rsft", {"learning_rat": 1e-5}, KNOWN, "SFTConfig")


def test_trl_field_of_the_launcher_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"dpo\.trl\.output_dir cannot be set"):
        check_names("dpo", {"output_dir": "x"}, KNOWN, "SFTConfig")


def test_packing_that_cuts_conversations_is_refused():
    check_names("rsft", {"packing": True, "packing_strategy": "bfd"}, KNOWN, "SFTConfig")
    with pytest.raises(ConfigError, match="packing_strategy"):
        check_names("rsft", {"packing": True, "packing_strategy": "wrapped"}, KNOWN, "SFTConfig")
    check_names("rsft", {"packing": False, "max_length": None}, KNOWN, "SFTConfig")
    with pytest.raises(ConfigError, match=r"rsft\.trl\.packing: .* max_length, which is null"):
        check_names("rsft", {"packing": True, "max_length": None}, KNOWN, "SFTConfig")


def test_a_seed_that_numpy_does_not_take_is_refused():
    for seed in (0, 2**32 - 1, None):
        check_seed("dpo.trl.seed", seed)
    check_seed("dpo.trl.max_steps", -1)
    for name, seed in (("seed", 2**32), ("seed", -1), ("data_seed", 2**32)):
        with pytest.raises(ConfigError, match=rf"dpo\.trl\.{name} is {seed}, must be from 0 to"):
            check_seed(f"dpo.trl.{name}", seed)


def test_a_simpo_margin_belongs_to_the_length_normalised_loss_of_dpo():
    for losses in ("sigmoid_norm", ["sigmoid_norm", "sft"]):
        Simpo().check("dpo", {"loss_type": losses})
    for trl in ({}, {"loss_type": "ipo"}, {"loss_type": ["sigmoid", "sigmoid_norm"]}):
        Dpo().check("dpo", trl)
        with pytest.raises(ConfigError, match="simpo_margin is set: SimPO is DPO with dpo"):
            Simpo().check("dpo", trl)
    for name, value in (
        ("beta", 0.0),
        ("ld_alpha", 0.5),
        ("use_weighting", True),
        ("f_divergence_type", "forward_kl"),
        ("precompute_ref_log_probs", False),
    ):
        with pytest.raises(ConfigError, match=f"dpo.trl.{name} is {value!r}"):
            Simpo().check("dpo", {"loss_type": "sigmoid_norm", name: value})


def test_zero3_without_gathering_is_refused_and_the_default_accepted():
    check_deepspeed("rsft", TrainingConfig().deepspeed)
    check_deepspeed("rsft", {"zero_optimization": {"stage": 2}})
    with pytest.raises(ConfigError, match="stage3_gather_16bit_weights_on_model_save"):
        check_deepspeed("rsft", {"zero_optimization": {"stage": 3}})


@pytest.fixture
def call(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "rows.parquet")
    config = TrainingConfig(trl={"learning_rate": 1e-5})
    return {
        "method": Rsft(),
        "config": config,
        "model": str(model),
        "rows": tmp_path / "rows.parquet",
    }


def test_fingerprint_changes_with_what_decides_the_outcome_only(call, tmp_path):
    first = fingerprint_of(**call)
    assert fingerprint_of(**call) == first
    patient = replace(call["config"], max_failures=9, trackers=[])
    assert fingerprint_of(**(call | {"config": patient})) == first
    faster = replace(call["config"], trl={"learning_rate": 2e-5})
    assert fingerprint_of(**(call | {"config": faster})) != first
    others = [Dpo(), Simpo(margin=0.5), Simpo(margin=1.5)]
    assert len({first, *(fingerprint_of(**(call | {"method": one})) for one in others)}) == 4
    (tmp_path / "model" / "model.safetensors").write_bytes(b"WEIGHTS")
    retrained = fingerprint_of(**call)
    assert retrained != first
    pq.write_table(pa.table({"id": ["b"]}), tmp_path / "rows.parquet")
    assert fingerprint_of(**call) != retrained
    assert fingerprint_of(**call) != first


def result_at(output):
    return TrainingResult("rsft", str(output), 3, 2, 1, 40, 20, 8, {"loss": 1.5}, 2.0)


def test_finished_output_of_the_same_call_is_its_result(tmp_path):
    output = tmp_path / "out"
    assert finished_result(output, "f1") is None
    output.mkdir()
    record = {"fingerprint": "f1", "result": asdict(result_at(output))}
    (output / RECORD).write_text(json.dumps(record))
    assert finished_result(output, "f1") == result_at(output)


@pytest.mark.parametrize("has_record", [True, False])
def test_output_of_another_call_is_never_overwritten(tmp_path, has_record):
    if has_record:
        record = {"fingerprint": "f1", "result": asdict(result_at(tmp_path))}
        (tmp_path / RECORD).write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="not made by this call"):
        finished_result(tmp_path, "f2")


def test_unfinished_folders_lie_beside_the_output(call, tmp_path):
    output = tmp_path / "a" / "rsft"
    job = job_of(name="rsft", **call, output=output, fingerprint="f1")
    for folder in (job.checkpoints, job.tokenised, job.weights):
        assert folder.parent == tmp_path / "a" / "rsft.training" / "f1"
    assert job.logs == tmp_path / "a" / "rsft.training" / "logs"


def test_on_an_object_store_programs_see_folders_of_their_node(tmp_path):
    call = {"method": Rsft(), "config": TrainingConfig(), "model": "m"}
    store = location("memory://bucket/a")
    job = job_of(
        name="rsft", **call, rows=store / "rows.parquet", output=store / "rsft", fingerprint="f1"
    )
    assert str(job.checkpoints) == "memory://bucket/a/rsft.training/f1/checkpoints"
    assert job.weights == store / "rsft"  # nothing is renamed there
    for name in ("checkpoints", "tokenised", "weights", "logs"):
        assert getattr(job.here, name).is_absolute() and not is_remote(getattr(job.here, name))
    assert job.events == job.logs / "events.jsonl"
    local = job_of(
        name="rsft", **call, rows=tmp_path / "r", output=tmp_path / "rsft", fingerprint="f1"
    )
    assert (local.here.weights, local.here.logs) == (local.weights, local.logs)


def test_a_model_in_a_store_without_its_record_is_a_half_only_where_it_was_begun():
    output = location("memory://halves/rsft")
    assert finished_result(output, "f1") is None
    (output / "model.safetensors").write_text("somebody's")
    with pytest.raises(ConfigError, match="not made by this call"):
        finished_result(output, "f1")
    begun(output, "f1").write_text("")
    assert finished_result(output, "f1") is None
    with pytest.raises(ConfigError, match="not made by this call"):
        finished_result(output, "f2")


def test_two_runs_of_one_training_share_no_copies():
    call = {"method": Rsft(), "config": TrainingConfig(), "model": "m", "fingerprint": "f1"}
    jobs = [job_of(name="rsft", **call, rows=o / "rows", output=o / "rsft") for o in STORES]
    assert jobs[0].here.checkpoints != jobs[1].here.checkpoints


@pytest.mark.parametrize(("on_node", "rank_of_node", "shares"), [(4, 1, [1]), (2, 1, [1, 3])])
def test_in_a_store_the_ranks_of_a_node_encode_all_shares_for_it(on_node, rank_of_node, shares):
    context = FakeContext(3, 4, rank_of_node, on_node)
    store = job_of("dpo", Dpo(), TrainingConfig(), "m", STORES[0], STORES[0] / "dpo", "f1")
    arguments = SimpleNamespace(precompute_ref_log_probs=False)
    assert list(worker._shares_of(store, context, arguments)) == shares
    local = replace(store, tokenised=Path("/shared/tokenised"))
    assert list(worker._shares_of(local, context, arguments)) == [3]


def test_reference_log_probabilities_are_not_handed_on_between_nodes_that_share_no_files():
    store = job_of("dpo", Dpo(), TrainingConfig(), "m", STORES[0], STORES[0] / "dpo", "f1")
    arguments = SimpleNamespace(precompute_ref_log_probs=True)
    with pytest.raises(ConfigError, match="ranks of two nodes share none"):
        worker._shares_of(store, FakeContext(0, 4, 0, 2), arguments)
    assert list(worker._shares_of(store, FakeContext(0, 2, 0, 2), arguments)) == [0]


def test_a_rank_sends_its_own_log_and_none_of_an_earlier_attempt(tmp_path):
    job = job_of("rsft", Rsft(), TrainingConfig(), "m", STORES[0], STORES[0] / "kept", "f1")
    logs = tmp_path / "logs"
    (logs / "tensorboard").mkdir(parents=True)
    (logs / "tensorboard" / "events").write_text("board")
    (logs / "rank-0.log").write_text("of an earlier attempt")
    with pytest.raises(KeyError), worker._kept(job, logs / "rank-1.log", 1):
        (logs / "rank-1.log").write_text("mine")
        raise KeyError
    assert [file.name for file in job.logs.iterdir()] == ["rank-1.log"]
    with worker._kept(job, logs / "rank-0.log", 0):
        pass
    assert (job.logs / "tensorboard" / "events").read_text() == "board"


class FakeContext:
    """Says which rank this is, of all and on its node, as that of `ray.train` does."""

    def __init__(self, rank, world_size, rank_of_node, on_node):
        self.get_world_rank, self.get_world_size = lambda: rank, lambda: world_size
        self.get_local_rank, self.get_local_world_size = lambda: rank_of_node, lambda: on_node


STORES = [location("memory://one/run"), location("memory://two/run")]


def test_pure_modules_import_without_the_heavy_stack():
    code = (
        "import sys, avr.training.job, avr.training.rows, avr.training.settings, "
        "avr.training.tokenised, avr.training.progress, avr.training.worker; "
        "print([m for m in ('ray','torch','trl','transformers','vllm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cause_of_a_failure_is_the_rank_that_failed_by_itself():
    failures = {
        0: RuntimeError("[gloo] Connection closed by peer [10.0.0.2]"),
        1: RuntimeError("Traceback ...\n  File x\nValueError: bad batch"),
    }
    rank, text = first_cause(failures)
    assert rank == 1 and text.endswith("ValueError: bad batch")
    assert first_cause({0: failures[0]})[0] == 0


def test_final_message_has_cause_traceback_tail_and_log(tmp_path):
    error = RuntimeError("group failed")
    error.worker_failures = {1: RuntimeError("\n".join([*map(str, range(40)), "ValueError: x"]))}
    message = explain("dpo", tmp_path, error)
    assert message.startswith("dpo: rank 1 failed: ValueError: x\n")
    assert "\n  39\n" in message and "\n  3\n" not in message
    assert message.endswith(f"logs: {tmp_path}/rank-1.log")
    assert explain("dpo", tmp_path, RuntimeError("no nodes")).startswith("dpo: no nodes")


def test_headline_of_a_dead_worker_is_short():
    ray_says = "The actor is dead. Worker exit type: SYSTEM_ERROR Worker exit detail: ..."
    assert headline(f"Traceback\n{ray_says}") == "The actor is dead."
    assert len(headline("x" * 1000)) < 250
