"""Memory of engines and training ranks: the formulas against sums done by hand."""

from dataclasses import replace

import pytest

from avr.memory.devices import gpu_gib
from avr.memory.engine import LOGIT, OVERHEAD, engine_helps, engine_need
from avr.memory.model import GIB, Model, Saved, UnknownMemoryError
from avr.memory.training import Training, alternatives, rank_need, states

LLAMA_8B = Model(8_030_261_248, 525_336_576, 32, 4096, 14336, 32, 8, 128, 128256, 8192)
LLAMA_70B = Model(70_553_706_496, 1_050_673_152, 80, 8192, 28672, 64, 8, 128, 128256, 8192)
QWEN_32B = Model(32_763_876_352, 778_567_680, 64, 5120, 27648, 40, 8, 128, 152064, 32768)
GEMMA_27B = Model(27_227_132_928, 1_179_648_000, 46, 4608, 36864, 32, 16, 128, 256000, 8192)
RANK = Training(num_ranks=8, stage=3, width=2, sequences=1, length=4096)


def test_weights_and_keys_and_values_of_engines_are_those_of_the_models():
    pair = {"tensor_parallel_size": 2}
    assert engine_need(LLAMA_8B, {}, None).weights == 2 * 8_030_261_248  # 15.0 GiB
    assert engine_need(QWEN_32B, pair, None).weights / GIB == pytest.approx(30.5, abs=0.05)
    assert engine_need(GEMMA_27B, pair, None).weights / GIB == pytest.approx(25.4, abs=0.05)
    assert engine_need(LLAMA_8B, {"dtype": "float32"}, None).weights == 4 * 8_030_261_248
    # Keys and values: 2 x layers x heads x 128 x 2 bytes, a half of the heads on each of two GPUs.
    assert engine_need(LLAMA_8B, {}, None).per_token == 2 * 32 * 8 * 128 * 2
    assert engine_need(QWEN_32B, pair, None).per_token == 2 * 64 * 4 * 128 * 2
    assert engine_need(LLAMA_8B, {"kv_cache_dtype": "fp8"}, None).per_token == 2 * 32 * 8 * 128
    wide = engine_need(LLAMA_8B, {"tensor_parallel_size": 16}, None)
    assert wide.per_token == 2 * 32 * 1 * 128 * 2  # a head is not divided


def test_the_rest_of_what_an_engine_may_take_is_room_for_tokens():
    engine = {
        "gpu_memory_utilization": 0.9,
        "max_model_len": 8192,
        "max_num_seqs": 512,
        "max_num_batched_tokens": 16384,
    }
    need = engine_need(LLAMA_8B, engine, 80 * GIB)
    activations = 16384 * (4 * 4096 + 3 * 14336) * 2
    assert need.start == OVERHEAD + activations + 512 * 128256 * LOGIT
    assert need.budget == 72 * GIB
    assert need.tokens == (72 * GIB - 16_060_522_496 - need.start) // 131072
    assert need.sequences == need.tokens / 8192
    assert need.least == 16_060_522_496 + need.start + 8192 * 131072
    assert engine_need(LLAMA_8B, engine, 80 * GIB, scores=True).start == OVERHEAD + activations


def test_what_is_not_said_is_what_the_model_and_vllm_say():
    need = engine_need(LLAMA_8B, {}, 100 * GIB)
    assert need.length == 8192 and need.budget == 92 * GIB
    assert engine_need(LLAMA_8B, {"max_model_len": None}, None).length == 8192
    assert engine_need(LLAMA_8B, {}, None).tokens is None
    with pytest.raises(UnknownMemoryError, match=r"engine\.quantization is 'fp8'"):
        engine_need(LLAMA_8B, {"quantization": "fp8"}, None)


def test_an_engine_that_cannot_fit_is_told_what_would_help():
    need = engine_need(LLAMA_70B, {}, 80 * GIB)
    assert need.surely > need.budget and need.tokens == 0
    helps = engine_helps(LLAMA_70B, {}, 80 * GIB)
    assert helps.startswith("engine.tensor_parallel_size=")
    ranks = int(helps.split("=")[1].split(" ")[0])
    assert engine_need(LLAMA_70B, {"tensor_parallel_size": ranks}, 80 * GIB).least <= 73.6 * GIB
    assert engine_helps(LLAMA_70B, {}, 8 * GIB) is None
    ten = replace(LLAMA_8B, num_heads=40, num_kv_heads=10)  # 4 ranks do not share 10 evenly
    assert engine_helps(ten, {}, 16 * GIB).startswith("engine.tensor_parallel_size=2 ")
    assert engine_helps(ten, {}, 10 * GIB) is None
    assert engine_helps(LLAMA_8B, {}, 10 * GIB).startswith("engine.tensor_parallel_size=4 ")
    odd = replace(LLAMA_8B, num_heads=33)  # cannot be divided
    assert engine_helps(odd, {}, int(23.5 * GIB)) == "engine.max_model_len=4096 (21 GiB)"


@pytest.mark.parametrize(
    ("stage", "bytes_each"), [(0, 16), (1, 4 + 12 / 8), (2, 2 + 14 / 8), (3, 16 / 8)]
)
def test_states_are_those_of_the_zero_paper(stage, bytes_each):
    num = 8_000_000_000
    assert states(num, replace(RANK, stage=stage)) == num * bytes_each


def test_states_of_8b_on_eight_ranks_and_on_one():
    assert states(LLAMA_8B.parameters, RANK) / GIB == pytest.approx(15.0, abs=0.05)
    assert states(LLAMA_8B.parameters, replace(RANK, stage=0)) / GIB == pytest.approx(
        119.7, abs=0.1
    )


def test_states_in_float32_offloaded_or_without_zero():
    single = replace(RANK, width=4, gradient_width=4)
    assert states(800, single) == 800 * 16 / 8  # updated in place: no second copy of the weights
    assert states(800, replace(single, stage=2)) == 800 * (4 + (4 + 4 + 8) / 8)
    plain = replace(single, deepspeed=False)
    assert states(800, plain) == 800 * (4 + 4 + 4 + 8)  # gradients, and DDP's buckets of them
    assert states(800, replace(plain, num_ranks=1)) == 800 * (4 + 4 + 8)
    assert states(800, replace(RANK, offload_optimizer=True)) == 800 * 4 / 8
    both = replace(RANK, offload_optimizer=True, offload_weights=True)
    assert states(800, both) == 800 * 2 / 8


def test_a_rank_holds_activations_the_head_and_what_zero_gathers():
    saved = Saved(fixed=100, layer=10, passed_on=1)
    assert saved.total(32, checkpointing=False) == 100 + 320
    assert saved.total(32, checkpointing=True) == 100 + 32 + 10
    need = rank_need(LLAMA_8B, RANK, saved)
    head, tokens = 128256 * 4096, 4096
    of_head = (head + tokens * 4096) * 6 + 4096 * 32768 * 2
    assert need.passing == 5e8 * 2 + (1e9 + head) * 2 + of_head
    assert need.least == need.states + need.passing + 142 + OVERHEAD
    two = rank_need(LLAMA_8B, replace(RANK, stage=2, num_buckets=2), saved)
    assert two.passing == 2 * 5e8 * 2 + of_head


def test_a_reference_model_is_a_share_of_weights_more_under_stage_3_and_all_of_them_below():
    saved, asked = Saved(0, 0, 0), replace(RANK, reference=True)
    more = rank_need(LLAMA_8B, asked, saved).states - rank_need(LLAMA_8B, RANK, saved).states
    assert more == 8_030_261_248 * 2 // 8
    two = replace(RANK, stage=2)
    more = rank_need(LLAMA_8B, replace(two, reference=True), saved).states
    assert more - rank_need(LLAMA_8B, two, saved).states == 8_030_261_248 * 2


def test_the_update_can_be_the_larger_need():
    need = rank_need(LLAMA_8B, replace(RANK, stage=0, length=1), Saved(0, 0, 0))
    assert need.update == 5e8 * 2 + 4 * 8_030_261_248 > need.passing
    assert need.least == need.states + need.update + OVERHEAD


def test_alternatives_take_less_each():
    worst = replace(RANK, stage=1, sequences=8, checkpointing=False, reference=True)
    saved = {}

    def need(training):
        tokens = training.sequences * training.length
        saved[training] = Saved(tokens, tokens * 100_000, tokens * 8192)
        return rank_need(LLAMA_8B, training, saved[training]).least

    names = [words.split("=")[0] for words, _ in alternatives(worst, pairs=True)]
    assert names == [
        "trl.precompute_ref_log_probs",
        "trl.per_device_train_batch_size",
        "deepspeed.zero_optimization.stage",
        "trl.gradient_checkpointing",
        "num_workers",
        "num_workers",
        "trl.max_length",
    ]
    assert all(need(other) < need(worst) for _, other in alternatives(worst, pairs=True))
    least = replace(RANK, sequences=2)
    assert [w.split("=")[0] for w, _ in alternatives(least, pairs=True)][:1] == ["num_workers"]


@pytest.mark.parametrize(
    ("node", "gib"),
    [
        ({"node_config": {"InstanceType": "p5.48xlarge"}, "resources": {"GPU": 8}}, 80),
        ({"node_config": {"InstanceType": "p4d.24xlarge"}}, 40),
        ({"node_config": {"machineType": "zones/us-central1-a/machineTypes/a2-ultragpu-8g"}}, 80),
        ({"nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-l4"}}, 22.5),
        ({"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}, 80),
        ({"resources": {"accelerator_type:H200": 1}}, 139),
        ({"one": ["g5.xlarge"], "other": "p5.4xlarge"}, 22.5),
        ({"node_config": {"InstanceType": "m7i.2xlarge"}}, None),
        ({"resources": {"accelerator_type:A100": 1}}, None),  # 40 or 80
        (None, None),
    ],
)
def test_names_of_machines_say_how_much_memory_their_gpus_have(node, gib):
    assert gpu_gib(node) == gib


def test_under_lora_only_the_adapter_has_gradients_and_an_optimizer():
    rank = replace(RANK, adapter=80)
    assert states(8000, rank) == (8080 * 2 + 80 * (2 + 4 + 8)) // 8
    assert states(8000, replace(rank, stage=2)) == 8080 * 2 + 80 * (2 + 4 + 8) // 8
    assert states(8000, replace(rank, stage=0)) == 8080 * 2 + 80 * (2 + 4 + 8)
    # Without DeepSpeed peft keeps the adapter in float32 on a model in bfloat16.
    plain = replace(rank, deepspeed=False, num_ranks=1)
    assert states(8000, plain) == 8000 * 2 + 80 * (4 + 4 + 8)
    assert states(8000, replace(plain, num_ranks=2)) == 8000 * 2 + 80 * (4 + 2 * 4 + 8)


def test_under_lora_the_head_has_no_gradient_and_the_update_is_small():
    adapter = 41_943_040  # rank 16 on all linear layers
    full, lora = (
        rank_need(LLAMA_8B, rank, Saved(0, 0, 0)) for rank in (RANK, replace(RANK, adapter=adapter))
    )
    head = 128256 * 4096
    assert full.passing - lora.passing == head * (4 + 2)
    assert lora.update == 5e8 * 2 + 4 * adapter // 8
    assert lora.states / GIB == pytest.approx(1.95, abs=0.01)  # a full training keeps 15.0
    trains_it = rank_need(LLAMA_8B, replace(RANK, adapter=adapter + head), Saved(0, 0, 0))
    assert trains_it.passing == full.passing
