"""`--plan` says the memory of every engine and training rank, and what cannot fit is refused."""

import json
import sys
from pathlib import Path

import pytest
from configured import needs, recipe_of
from model_shapes import BY_NAME, GEMMA_27B, LLAMA_8B, LLAMA_70B, QWEN_32B, read

from avr.config.answers import RefineConfig
from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.training import TrainingConfig
from avr.engines.model_config import HubUnreachableError, ModelConfigError
from avr.memory.dry_run import model_of, saved_by
from avr.memory.model import GIB, UnknownMemoryError
from avr.plan import memory as plan_memory
from avr.plan.fit import NodeType
from avr.plan.memory import memory_of
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config
from avr.recipes.stage2 import planned as as_planned
from avr.run.command import job
from avr.run.runner import run
from avr.training.memory import rank_settings
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft
from avr.training.methods.simpo import Simpo

ANY = "avr/miniature/data/rsft.jsonl"
DPO = "avr/miniature/data/dpo.jsonl"


def stage1(*overrides):
    return needs(load(Stage1Config, "conf/llama3_8b/stage1.yaml", overrides))


def by_pool(memory):
    return {(one.step, one.pool): one for one in memory}


@pytest.mark.parametrize(
    ("config", "scores", "parameters"),
    [
        (LLAMA_8B, False, 8_030_261_248),
        (LLAMA_70B, False, 70_553_706_496),
        (QWEN_32B, False, 32_763_876_352),  # biases of queries, keys and values among them
        (GEMMA_27B, True, 27_227_128_320 + 4608),  # tied; a head of one logit
    ],
    ids=["llama-8b", "llama-70b", "qwen-32b", "gemma-27b"],
)
def test_parameters_are_counted_by_the_models_own_code(config, scores, parameters):
    assert model_of(config, scores).parameters == parameters


def test_shapes_are_those_of_config_json():
    model = model_of(QWEN_32B)
    assert (model.num_layers, model.num_heads, model.num_kv_heads) == (64, 40, 8)
    assert model.head_dim == 128 and model.vocabulary == 152064 and model.positions == 32768
    assert model.largest == 152064 * 5120  # the embeddings are larger than a layer


def test_what_a_layer_saves_grows_with_its_tokens_and_an_eager_one_keeps_its_attention():
    one, two = saved_by(LLAMA_8B, 1, 1024), saved_by(LLAMA_8B, 2, 1024)
    assert two.layer == pytest.approx(2 * one.layer, rel=1e-3)
    assert one.passed_on == 1024 * 4096 * 2
    assert saved_by(LLAMA_8B, 1, 1024, attention="eager").layer > 1.5 * one.layer
    assert saved_by(LLAMA_8B, 1, 1024, bits=32).layer > 1.5 * one.layer
    # Gemma-2 caps its attention's logits: sdpa would not, so eager attention is what is asked.
    assert saved_by(GEMMA_27B, 1, 256) == saved_by(GEMMA_27B, 1, 256, attention="eager")


def test_stage_1_of_8b_fits_its_eight_gpus_of_80_gb_as_its_recipe_says():
    memory = by_pool(memory_of(stage1(), 80, read=read))
    assert {key: one.problem or one.tight for key, one in memory.items()} == dict.fromkeys(
        [
            ("grow_rsft, grow_dpo", "policy"),
            ("grow_rsft", "corrector"),
            ("grow_rsft, grow_dpo", "reward_model"),
            ("rsft", "training worker"),
            ("dpo", "training worker"),
        ],
        False,
    )
    assert memory["grow_rsft, grow_dpo", "policy"].amount == "21 of 72"
    assert "weights 31" in memory["grow_rsft", "corrector"].parts
    assert "weights 25" in memory["grow_rsft, grow_dpo", "reward_model"].parts


def test_stage_1_of_8b_fits_without_checkpointing_too():
    rank = by_pool(memory_of(stage1("rsft.trl.gradient_checkpointing=false"), 80, read=read))[
        "rsft", "training worker"
    ]
    assert rank.amount == "51 of 80" and rank.problem is None
    assert "states 15 (ZeRO-3 of 8), activations 27 (4,096 tokens" in rank.parts


def test_stage_2_of_8b_fits_its_eight_gpus_of_80_gb_as_its_recipe_says():
    config = load(Stage2Config, "conf/llama3_8b/stage2.yaml", [])
    memory = memory_of(needs(config), 80, read=read)
    assert [one.pool for one in memory if one.pool != "training worker"] == [
        "policy",
        "reward_model",
    ]
    assert len(memory) == 4
    assert not [one for one in memory if one.problem or one.tight or one.unknown]


def test_a_model_that_stage_1_has_yet_to_train_is_as_large_as_its_policy(tmp_path):
    (tmp_path / "config.yaml").write_text("policy: {model: meta-llama/Meta-Llama-3-8B-Instruct}\n")
    overrides = [f"stage1_dir={tmp_path}", "steps=[search]"]
    config = load(Stage2Config, "conf/llama3_8b/stage2.yaml", overrides)

    def not_there(model):
        if model not in BY_NAME:
            raise ModelConfigError(f"{model} has no config.json")
        return BY_NAME[model]

    policy, _ = memory_of(needs(config), 80, read=not_there)
    assert not policy.unknown and "weights 15" in policy.parts
    later = load(Stage2Config, "conf/llama3_8b/stage2.yaml", ["steps=[search]"])
    policy, _ = memory_of(needs(as_planned(later)), 80, read=not_there)
    assert not policy.unknown and "weights 15" in policy.parts


def test_a_model_whose_shape_has_other_names_is_said_to_be_unknown():
    with pytest.raises(UnknownMemoryError):
        model_of({"model_type": "gpt2"})


def test_a_70b_engine_does_not_fit_one_gpu_and_its_line_says_what_would_help():
    plan = stage1("policy.model=large")
    memory = memory_of(plan, 80, read=lambda model: BY_NAME.get(model, LLAMA_70B))
    problems = {one.problem for one in memory if one.pool == "policy"}
    (problem,) = problems
    assert problem.startswith("grow_rsft, grow_dpo: policy needs 141 of 72 GiB of a GPU (weights")
    assert problem.endswith("what would help: policy.engine.tensor_parallel_size=4 (38 GiB)")


def test_a_rank_that_does_not_fit_is_told_what_would_help():
    plan = stage1("rsft.trl.gradient_checkpointing=false", "rsft.trl.max_length=16384")
    problem = by_pool(memory_of(plan, 80, read=read))["rsft", "training worker"].problem
    assert problem.startswith("rsft: training worker needs 145 of 80 GiB of a GPU (states 15")
    assert problem.endswith("what would help: rsft.trl.gradient_checkpointing=true (32 GiB)")
    alone = stage1("dpo.num_workers=1", "dpo.trl.max_length=1024")
    problem = by_pool(memory_of(alone, 80, read=read))["dpo", "training worker"].problem
    assert problem.endswith("what would help: dpo.num_workers=2 (70 GiB)")
    problem = by_pool(memory_of(alone, 16, read=read))["dpo", "training worker"].problem
    assert problem.endswith("what would help: more GPUs, or such with more memory")


def test_what_fits_only_if_estimates_are_too_high_is_tight_and_not_refused():
    (policy,) = (m for m in memory_of(stage1(), 22, read=read) if m.pool == "policy")
    assert policy.tight and policy.problem is None and policy.amount == "21 of 20"


def test_a_cluster_file_says_how_large_its_gpus_are_and_the_smallest_counts():
    nodes = [
        NodeType("small", 4, 16, 1, 22.5),
        NodeType("large", 1, 192, 8, 80.0),
        NodeType("none", 0, 16, 1, 15.0),
    ]
    memory = by_pool(memory_of(stage1(), 40, nodes, read=read))
    assert memory["grow_rsft, grow_dpo", "policy"].gpu == 22.5 * GIB
    assert memory["grow_rsft", "corrector"].gpu == 80 * GIB  # a pair of GPUs has room there only
    unknown = [*nodes, NodeType("own", 1, 192, 8)]
    memory = by_pool(memory_of(stage1(), 40, unknown, read=read))
    assert memory["grow_rsft", "corrector"].gpu == 40 * GIB


def test_what_cannot_be_worked_out_is_named_with_its_reason():
    def offline(model):
        if "Qwen" in model:
            raise HubUnreachableError(model, "HF_HUB_OFFLINE is set")
        return BY_NAME[model]

    plan = stage1("reward_model.engine.quantization=fp8", "rsft.trl.optim=adafactor")
    memory = by_pool(memory_of(plan, 80, read=offline))
    assert "HF_HUB_OFFLINE" in memory["grow_rsft", "corrector"].unknown
    reward = memory["grow_rsft, grow_dpo", "reward_model"].unknown
    assert reward == "engine.quantization is 'fp8'"
    assert memory["rsft", "training worker"].unknown == "rsft.trl.optim is adafactor"
    assert not any(one.problem for one in memory.values())
    with pytest.raises(UnknownMemoryError, match="Transformers cannot read its config"):
        model_of({"model_type": "nobodys"})


def test_pools_on_cpus_say_nothing_and_ask_nobody():
    config = load(Stage1Config, "conf/miniature/stage1.yaml", [])
    assert memory_of(needs(config), None, read=None) == []


def test_settings_of_a_rank_are_read_with_the_defaults_of_trl():
    rank, layout = rank_settings("dpo", Dpo(), TrainingConfig(trl={"max_length": 2048}))
    assert (rank.num_ranks, rank.stage, rank.width, rank.sequences) == (8, 3, 2, 16)
    assert rank.checkpointing and rank.reference and not rank.packed
    assert layout.bits == 16 and not layout.autocast
    plain = {"max_length": 64, "packing": True, "gradient_checkpointing": False, "bf16": False}
    rank, layout = rank_settings("rsft", Rsft(), TrainingConfig(trl=plain, num_workers=2))
    assert (rank.width, rank.gradient_width, rank.sequences, rank.packed) == (4, 4, 8, True)
    assert not rank.checkpointing and not rank.reference and not layout.autocast
    rank, layout = rank_settings(
        "rsft", Rsft(), TrainingConfig(trl={"max_length": 64}, deepspeed={})
    )
    assert not rank.deepspeed and rank.width == 4 and layout.autocast
    short = TrainingConfig(trl={"max_length": 64})
    assert rank_settings("dpo", Dpo(), short)[0].reference
    assert not rank_settings("dpo", Simpo(), short)[0].reference


def test_with_an_adapter_a_rank_needs_less_and_dpo_has_no_second_model():
    lora = {"r": 16, "target_modules": "all-linear"}
    rank, layout = rank_settings("dpo", Dpo(), TrainingConfig(trl={"max_length": 64}, lora=lora))
    assert not rank.reference and layout.lora == lora and not layout.wide
    plain = TrainingConfig(trl={"max_length": 64}, lora=lora, deepspeed={})
    assert rank_settings("dpo", Dpo(), plain)[1].wide
    full = by_pool(memory_of(stage1("steps=[rsft]"), 80, read=read))
    some = by_pool(
        memory_of(stage1("steps=[rsft]", "rsft.lora={target_modules: all-linear}"), 80, read=read)
    )
    full, some = (memory["rsft", "training worker"] for memory in (full, some))
    assert some.surely < full.surely - 10 * GIB
    assert "(ZeRO-3 of 8, of an adapter of 21 million parameters)" in some.parts
    wrong = stage1("steps=[rsft]", "rsft.lora={target_modules: [qkv]}")
    memory = by_pool(memory_of(wrong, 80, read=read))
    assert "qkv" in memory["rsft", "training worker"].unknown


def test_what_an_adapter_saves_for_the_backward_pass_is_measured_on_its_layers():
    plain = saved_by(LLAMA_8B, 1, 64)
    lora = saved_by(LLAMA_8B, 1, 64, lora={"target_modules": ["q_proj"]})
    dropped = saved_by(LLAMA_8B, 1, 64, lora={"target_modules": ["q_proj"], "lora_dropout": 0.1})
    last = {"target_modules": ["q_proj"], "layers_to_transform": [31]}
    assert saved_by(LLAMA_8B, 1, 64, lora=last) == lora
    wide = saved_by(LLAMA_8B, 1, 64, lora={"target_modules": ["q_proj"]}, wide=True)
    # A frozen layer keeps no input; dropout keeps another one, float32 twice as much.
    assert 0 < lora.layer < plain.layer
    assert lora.layer < dropped.layer and lora.layer < wide.layer


def models(tmp_path, **configs):
    for name, config in configs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        for file in ("model.safetensors", "tokenizer.json", "chat_template.jinja"):
            (tmp_path / name / file).write_text("{}")
    return [
        f"policy.model={tmp_path}/policy",
        f"reward_model.model={tmp_path}/reward",
        f"prompts.rsft.path={ANY}",
        f"prompts.dpo.path={DPO}",
        *(f"prompts.{kind}.answer_field=null" for kind in ("rsft", "dpo")),
        "prompts.dpo.skip=0",
        f"run_dir={tmp_path}/run",
        "corrector=null",
        "gpu_memory_gib=80",
    ]


def run_job(monkeypatch, config, overrides):
    words = ["stage1.py", config, *overrides, "--plan"]
    monkeypatch.setattr(sys, "argv", words)
    return job("", "avr.recipes.stage1")


def test_plan_prints_what_is_needed_of_how_much(monkeypatch, capfd, tmp_path):
    overrides = models(tmp_path, policy=LLAMA_8B, reward=GEMMA_27B)
    assert run_job(monkeypatch, "conf/llama3_8b/stage1.yaml", overrides) == 0
    said = capfd.readouterr().out
    assert "Memory of one GPU" in said and "21 of 72" in said and "26 of 80" in said


def test_plan_ends_with_a_status_and_a_line_for_what_cannot_fit(monkeypatch, capfd, tmp_path):
    overrides = models(tmp_path, policy=LLAMA_70B, reward=GEMMA_27B)
    assert run_job(monkeypatch, "conf/llama3_8b/stage1.yaml", overrides) == 1
    lines = capfd.readouterr().out.splitlines()
    assert any(line.startswith("grow_rsft, grow_dpo: policy needs 141 of 72") for line in lines)


def test_a_run_of_what_cannot_fit_ends_before_it_has_a_folder(tmp_path):
    overrides = models(tmp_path, policy=LLAMA_70B, reward=GEMMA_27B)
    config = load(Stage1Config, "conf/llama3_8b/stage1.yaml", overrides)
    with pytest.raises(ConfigError, match="policy needs 141 of 72 GiB"):
        run(config, recipe_of(config))
    assert not (tmp_path / "run").exists()


def test_a_models_own_config_is_what_is_read_unless_another_reader_is_given():
    folder = Path("tests/models/meta-llama/Meta-Llama-3-8B-Instruct").resolve()
    memory = by_pool(memory_of(stage1(f"policy.model={folder}", "steps=[rsft]"), 80))
    rank = memory["rsft", "training worker"]
    assert not rank.unknown and rank.amount


def test_other_jobs_say_their_memory_as_well(tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"instruction": "a", "output": "b"}\n')
    policy = f"policy.model={Path('avr/miniature/models/policy')}"
    overrides = [policy, f"answers.path={answers}"]
    config = load(RefineConfig, "conf/llama3_8b/refine.yaml", overrides)
    memory = memory_of(needs(config), 80, read=lambda m: BY_NAME.get(m, LLAMA_8B))
    assert [(one.pool, one.unknown) for one in memory] == [("policy", ""), ("reward_model", "")]
    assert all(one.surely > 15 * GIB for one in memory)  # 8B in 16 bits


def test_a_run_is_held_against_the_gpus_of_this_machine_and_a_clusters_job_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(plan_memory._Here, "gpu_gib", 16.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    overrides = models(tmp_path, policy=LLAMA_8B, reward=LLAMA_8B)
    plan = needs(load(Stage1Config, "conf/llama3_8b/stage1.yaml", overrides))
    with pytest.raises(ConfigError, match="this machine's GPUs have 16 GiB"):
        plan_memory.check_memory(plan, 80)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    plan_memory.check_memory(plan, 80)
    plan_memory.check_memory(plan, None)  # nobody knows them
