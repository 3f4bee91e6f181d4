"""Trainings of an adapter: what is kept, what is merged, killed ones, and bare TRL with peft."""

from dataclasses import replace
from pathlib import Path

import pytest
import training_models as tm
from test_training_runs import Killer, events, mean_loss, weights

from avr.training.job import TrainingError
from avr.training.launch import train
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft
from avr.training.weights import merge

pytestmark = pytest.mark.integration
NUM_ROWS, STEPS, SCALE = 32, 8, 4.0
LORA = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "down_proj"]}
# With checkpointed gradients, as a large model has them.
TRL = {"max_steps": STEPS, "learning_rate": 1e-2, "gradient_checkpointing": True}
SAVES = {"save_strategy": "steps", "save_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    tm.write_model(folder / "model")
    tm.write_rows(folder / "rsft.parquet", [tm.rsft_row(i) for i in range(NUM_ROWS)])
    tm.write_rows(folder / "dpo.parquet", [tm.dpo_row(i) for i in range(NUM_ROWS)])
    return folder


@pytest.fixture(scope="module")
def rsft(ray_cluster, folder):
    """The output folder of an RSFT of an adapter by two ranks, which nobody interrupts."""
    config = tm.on_cpus(TRL | SAVES, lora=LORA)
    train("rsft", Rsft(), config, folder / "model", folder / "rsft.parquet", folder / "rsft")
    return folder / "rsft"


def tensors(file):
    from safetensors.torch import load_file

    return load_file(file)


def adapter_of(output):
    """The adapter's matrices, by the name of the weight that they change."""
    found = {}
    for name, tensor in tensors(output / "adapter" / "adapter_model.safetensors").items():
        where, _, side = name.removeprefix("base_model.model.").rpartition(".lora_")
        found.setdefault(f"{where}.weight", {})[side[0]] = tensor
    return found


def test_the_model_is_the_base_with_the_adapter_in_it_and_nothing_else(rsft, folder):
    import torch

    base, merged = (tensors(f / "model.safetensors") for f in (folder / "model", rsft))
    adapter = adapter_of(rsft)
    assert base.keys() == merged.keys() and len(adapter) == 4  # two layers with two each
    for name, tensor in base.items():
        if name not in adapter:
            assert torch.equal(merged[name], tensor), name
            continue
        added = SCALE * (adapter[name]["B"] @ adapter[name]["A"])
        assert added.abs().max() > 1e-3
        torch.testing.assert_close(merged[name], tensor + added, atol=1e-7, rtol=1e-6)
    assert {f.name for f in rsft.iterdir()} >= {"config.json", "tokenizer.json", "training.json"}
    assert tm.load_json(rsft / "config.json")["use_cache"] is True
    rows = [tm.rsft_row(i) for i in range(10, 20)]
    assert mean_loss(rsft, rows) < mean_loss(folder / "model", rows) - 0.05


def test_the_adapter_is_kept_by_itself_with_the_name_of_its_base(rsft, folder):
    record = tm.load_json(rsft / "training.json")
    kept = rsft / record["adapter"]
    assert {f.name for f in kept.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    config = tm.load_json(kept / "adapter_config.json")
    assert Path(config["base_model_name_or_path"]) == folder / "model"
    assert config["task_type"] == "CAUSAL_LM" and config["r"] == 4
    assert record["settings"]["lora"] == LORA


def test_peft_puts_the_kept_adapter_on_its_base_and_gets_the_merged_model(rsft, folder):
    import torch
    from peft import AutoPeftModelForCausalLM

    by_peft = AutoPeftModelForCausalLM.from_pretrained(rsft / "adapter").merge_and_unload()
    for name, tensor in weights(rsft).items():
        assert torch.equal(by_peft.state_dict()[name], tensor), name


@pytest.mark.long
def test_a_killed_training_of_an_adapter_continues_to_the_same_weights(rsft, folder):
    import torch

    output, training = folder / "killed", folder / "killed.training"
    config = tm.on_cpus(TRL | SAVES, max_failures=0, lora=LORA)
    arguments = ("rsft", Rsft(), config, folder / "model", folder / "rsft.parquet", output)
    killer = Killer(training / "logs", rank=1, step=4)
    with pytest.raises(TrainingError, match=r"rank \d failed"):
        train(*arguments)
    assert killer.killed
    kept = max(m.parent for m in training.rglob("complete"))
    size = sum(f.stat().st_size for f in kept.rglob("*.pt"))
    assert size < (folder / "model" / "model.safetensors").stat().st_size  # no model is in it
    train(*arguments)
    begins = [e["step"] for e in events(training / "logs") if e["event"] == "begin"]
    assert len(begins) == 2 and 4 <= begins[1] < STEPS
    for name, tensor in weights(rsft).items():
        torch.testing.assert_close(weights(output)[name], tensor, atol=1e-6, rtol=1e-5)


def random_adapter(folder, to, dtype, **lora):
    """The model of a folder with an adapter of random weights, which is saved to another folder."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from avr.memory.adapter import lora_config

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model = get_peft_model(base, lora_config(lora)).eval()
    torch.manual_seed(1)
    for name, tensor in model.named_parameters():
        if tensor.requires_grad:
            change = 0.05 * torch.randn_like(tensor)
            tensor.data += change if "lora_" not in name else change - tensor.data
    model.save_pretrained(to)
    return model


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": "all-linear", "r": 4, "lora_alpha": 16, "use_rslora": True},
        {
            "target_modules": ["v_proj"],
            "rank_pattern": {"v_proj": 2},
            "alpha_pattern": {"v_proj": 3},
        },
        {"target_modules": ["v_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["embed_tokens", "o_proj"], "layers_to_transform": [1]},
        {"target_modules": ["o_proj"], "use_dora": True},
    ],
    ids=lambda lora: next(reversed(lora)),
)
def test_a_merged_model_says_what_the_model_with_its_adapter_says(tmp_path, lora):
    import torch

    tm.write_model(tmp_path / "model")
    trained = random_adapter(tmp_path / "model", tmp_path / "adapter", "float32", **lora)
    tokens = torch.arange(40)[None] + 10
    with torch.no_grad(), trained.disable_adapter():
        before = trained(tokens).logits
    with torch.no_grad():
        said = trained(tokens).logits
    merged = merge(tmp_path / "adapter", trained, str(tmp_path / "model"), None)
    merged.save_pretrained(tmp_path / "merged")
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        alone = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(tokens).logits
    assert (said - before).abs().max() > 0.05
    torch.testing.assert_close(alone, said, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_a_model_in_bfloat16_is_merged_in_float32_and_rounded_once_or_not_at_all(tmp_path, dtype):
    import torch
    from transformers import AutoModelForCausalLM

    tm.write_model(tmp_path / "wide")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "wide", dtype="bfloat16")
    base.save_pretrained(tmp_path / "model")
    settings = {"target_modules": ["v_proj"], "r": 4, "lora_alpha": 16}
    trained = random_adapter(tmp_path / "model", tmp_path / "adapter", "bfloat16", **settings)
    whole = merge(tmp_path / "adapter", trained, str(tmp_path / "model"), dtype)
    whole.save_pretrained(tmp_path / "merged")
    assert tm.load_json(tmp_path / "merged" / "config.json")["dtype"] == (dtype or "bfloat16")
    merged = whole.state_dict()
    adapter = tensors(tmp_path / "adapter" / "adapter_model.safetensors")
    for name, tensor in base.state_dict().items():
        there = f"base_model.model.{name.removesuffix('weight')}lora_"
        exact = tensor.float()
        if "v_proj" in name:
            a, b = (adapter[f"{there}{side}.weight"].float() for side in "AB")
            exact = exact + SCALE * (b @ a)
        assert torch.equal(merged[name], exact if dtype else exact.bfloat16()), name


def bare(method, folder, trl):
    """Adapter and losses of TRL's own trainer with peft, in this process, without DeepSpeed."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model_state_dict
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    make = tm.rsft_row if method.name == "rsft" else tm.dpo_row
    rows = [method.encode(tokenizer, make(i)).columns for i in range(NUM_ROWS)]
    settings = tm.on_cpus(trl).trl | method.settings(trl)
    arguments = method.arguments()(
        output_dir=str(folder / "bare"), use_cpu=True, report_to="none", **settings
    )
    trainer = method.trainer()(
        model=str(folder / "model"),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return get_peft_model_state_dict(trainer.model), losses


@pytest.mark.parametrize(
    ("method", "deepspeed"),
    [(Rsft(), False), (Dpo(), False), (Dpo(), True)],
    ids=["rsft", "dpo", "dpo-zero3"],
)
def test_one_rank_trains_the_adapter_that_bare_trl_trains(ray_cluster, folder, method, deepspeed):
    """Without DeepSpeed to the bit.

    ZeRO-3 hangs nodes of its own into autograd's graph around every module. Where gradients of the
    residual stream meet they are then added in another order: all forward passes are the same to
    the bit, and gradients differ in their last. (Seen by comparing what enters and leaves every
    module.) Adam makes of it up to 2e-6 in these 8 steps of up to 1e-2.
    """
    import torch

    config = tm.on_cpus(TRL | {"logging_steps": 1}, num_workers=1, lora=LORA)
    config = config if deepspeed else replace(config, deepspeed={})
    output = folder / f"{method.name}-{deepspeed}"
    train(method.name, method, config, folder / "model", folder / f"{method.name}.parquet", output)
    ours = tensors(output / "adapter" / "adapter_model.safetensors")
    theirs, losses = bare(method, folder, TRL | {"logging_steps": 1})
    logs = events(output.with_name(f"{output.name}.training") / "logs")
    logged = [e["metrics"]["loss"] for e in logs if e["event"] == "log" and "loss" in e["metrics"]]
    assert len(losses) == STEPS and logged == pytest.approx(losses, rel=1e-5 if deepspeed else 0)
    assert ours.keys() == theirs.keys() and len(ours) == 8
    for name, tensor in theirs.items():
        if deepspeed:
            torch.testing.assert_close(ours[name], tensor, atol=1e-5, rtol=0)
        else:
            assert torch.equal(ours[name], tensor), name
    assert any("lora_B" in name and tensor.abs().max() > 1e-2 for name, tensor in ours.items())


def test_modules_that_the_model_does_not_have_end_a_training_before_its_first_step(
    ray_cluster, folder
):
    """As on a rank where the driver could not reach the model."""
    config = tm.on_cpus(TRL, num_workers=1, lora={"target_modules": ["wq"]})
    output = folder / "refused"
    with pytest.raises(TrainingError, match=r"rsft\.lora: .*wq"):
        train("rsft", Rsft(), config, folder / "model", folder / "rsft.parquet", output)
    assert events(output.with_name("refused.training") / "logs") == []
