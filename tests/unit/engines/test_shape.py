"""What a recipe asks of a model, against its shape: one line that says what would be right."""

import pytest

from avr.config.errors import ConfigError
from avr.config.roles import RoleConfig
from avr.config.training import TrainingConfig
from avr.engines.settings import _fields, check_role
from avr.engines.shape import (
    check_classifier,
    check_engine,
    check_lengths,
    heads,
    num_labels,
    positions,
)

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
REWARD = LLAMA | {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "r"}}


def wrong(check, *arguments):
    with pytest.raises(ConfigError) as caught:
        check(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def engine(config=LLAMA, max_tokens=2048, at="policy.sampling", **settings):
    role = RoleConfig(model="us/llama", engine=settings)
    check_engine("policy", role, "us/llama", config, {at: {"max_tokens": max_tokens}})


def test_an_engine_has_no_more_positions_than_its_model():
    engine(max_model_len=8192)
    with pytest.raises(ConfigError) as caught:
        engine(max_model_len=16384)
    assert str(caught.value) == (
        "policy.engine.max_model_len is 16384, and us/llama has 8192 positions: it must be at most"
        " 8192"
    )
    engine({"num_attention_heads": 32}, max_model_len=16384)  # it does not say


def test_an_output_leaves_room_for_its_prompt():
    engine(max_tokens=8191)
    with pytest.raises(ConfigError) as caught:
        engine(max_tokens=8192, at="outputs.sampling")
    assert str(caught.value) == (
        "outputs.sampling.max_tokens is 8192, and us/llama has 8192 positions for prompt and output"
        " together: 6144, say, leaves room for a prompt"
    )


def test_rows_are_no_longer_than_the_positions_of_the_model_they_train():
    def check(length):
        check_lengths("dpo", TrainingConfig(trl={"max_length": length}), "us/llama", LLAMA)

    for length in (8192, None):
        check(length)
    assert wrong(check, 8193) == (
        "dpo.trl.max_length is 8193, and us/llama has 8192 positions: it must be at most 8192"
    )


@pytest.mark.parametrize(
    ("query", "kv", "sizes"),
    [(32, 8, (1, 2, 4, 8, 16, 32)), (40, 8, (1, 2, 4, 8, 40)), (5, 5, (1, 5)), (32, 1, (1, 32))],
)
def test_heads_are_shared_evenly_by_the_ranks_of_an_engine(query, kv, sizes):
    config = {"num_attention_heads": query, "num_key_value_heads": kv}
    for size in range(1, query + 2):
        if size in sizes or (kv == 1 and query % size == 0):
            engine(config, tensor_parallel_size=size)
        else:
            with pytest.raises(ConfigError, match=f"{query} attention heads and {kv} KV heads"):
                engine(config, tensor_parallel_size=size)


def test_what_is_said_of_heads_names_the_sizes_that_would_do():
    with pytest.raises(ConfigError) as caught:
        engine(tensor_parallel_size=3)
    assert str(caught.value) == (
        "policy.engine.tensor_parallel_size is 3, and us/llama has 32 attention heads and 8 KV"
        " heads, which are shared evenly by 1, 2, 4, 8, 16, 32"
    )
    assert heads({"num_attention_heads": 6}) == (6, 6)  # without grouped queries
    assert heads({"text_config": LLAMA}) == (32, 8)


@pytest.mark.parametrize(
    ("rope", "most"),
    [
        ({}, 8192),
        ({"rope_scaling": None}, 8192),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 16384),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, 32768),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 8192),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 8192),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 8192),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, 16384),
        ({"model_type": "gemma3_text", "rope_scaling": {"type": "linear", "factor": 8.0}}, 8192),
        ({"model_max_length": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
    ],
)
def test_positions_count_rotary_scaling_as_vllm_does(rope, most):
    assert positions(LLAMA | rope) == most
    assert positions({"text_config": LLAMA | rope}) == most


def test_settings_laid_over_a_config_are_what_counts():
    scaled = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    engine(max_model_len=16384, hf_overrides=scaled)
    nested = LLAMA | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    with pytest.raises(ConfigError, match="has 12288 positions"):
        engine(nested, max_model_len=16384, hf_overrides={"rope_scaling": {"factor": 1.5}})
    assert nested["rope_scaling"]["factor"] == 2.0


def test_a_reward_model_has_exactly_one_label():
    check_classifier("reward_model.model", "us/rm", REWARD)
    several = REWARD | {"id2label": {"0": "bad", "1": "good"}}
    assert wrong(check_classifier, "reward_model.model", "us/rm", several) == (
        "reward_model.model: us/rm has 2 labels; a Bradley-Terry reward model has one"
    )
    assert wrong(check_classifier, "reward_model.model", "us/rm", LLAMA) == (
        "reward_model.model: us/rm is a LlamaForCausalLM, not a sequence classifier"
    )
    assert [num_labels(c) for c in ({}, {"num_labels": 1}, {"id2label": {"0": "a"}})] == [2, 1, 1]


@pytest.mark.parametrize(
    "setting",
    ["pipeline_parallel_size", "data_parallel_size", "prefill_context_parallel_size", "nnodes"],
)
def test_a_setting_that_would_take_gpus_nobody_plans_is_refused(setting):
    assert setting in _fields("engine/arg_utils.py", "EngineArgs")  # vLLM renames them
    sampling = {"max_tokens": 8}
    check_role("policy", RoleConfig(model="m", engine={setting: 1}, sampling=sampling))
    role = RoleConfig(model="m", engine={setting: 2}, sampling=sampling)
    assert wrong(check_role, "policy", role) == (
        f"policy.engine.{setting} is 2, must be 1: a replica is given the GPUs of"
        " policy.engine.tensor_parallel_size alone; more engines are policy.max_replicas"
    )
