"""Settings of LoRA: peft's own names, refused before anything starts where they cannot be right."""

import json
from pathlib import Path

import pytest
from model_shapes import LLAMA_8B

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.memory.dry_run import trained_by
from avr.plan.models import training as use_of
from avr.recipes.stage1 import Stage1Config
from avr.training.settings import LORA_OWNED, check_adapter, check_lora

MINE = {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"], "use_rslora": True}
POLICY = json.loads(Path("avr/miniature/models/policy/config.json").read_text())


def test_a_recipe_sets_lora_under_pefts_names_and_leaves_it_out_by_default():
    plain = load(Stage1Config, "conf/miniature/stage1.yaml", [])
    assert plain.rsft.lora is None and plain.dpo.lora is None
    words = ["rsft.lora.r=16", "rsft.lora.target_modules=[q_proj, v_proj]", "dpo.lora={}"]
    config = load(Stage1Config, "conf/miniature/stage1.yaml", words)
    assert config.rsft.lora == {"r": 16, "target_modules": ["q_proj", "v_proj"]}
    assert config.dpo.lora == {}


def test_settings_of_peft_pass_and_a_misspelt_one_names_the_one_that_was_meant():
    check_lora("rsft", {})
    check_lora("rsft", MINE | {"bias": "lora_only", "modules_to_save": ["lm_head"]})
    with pytest.raises(ConfigError, match=r"rsft\.lora\.lora_alhpa is no .* mean 'lora_alpha'"):
        check_lora("rsft", {"lora_alhpa": 32})


@pytest.mark.parametrize("name", sorted(LORA_OWNED))
def test_what_a_training_decides_itself_is_refused_with_the_reason(name):
    with pytest.raises(ConfigError, match=rf"dpo\.lora\.{name} cannot be set: \w+"):
        check_lora("dpo", {name: "mine"})


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"r": 0}, r"lora\.r is 0, must be above 0"),
        ({"r": "16"}, r"lora\.r is '16', must be a whole number"),
        ({"bias": "some"}, r"lora\.bias is 'some'"),
        ({"init_lora_weights": "pissa"}, "changes the base model, which is DPO's reference"),
        ({"target_modules": ".*q_proj", "layers_to_transform": 1}, "layers_to_transform"),
    ],
)
def test_values_that_peft_would_refuse_or_that_change_the_base_are_refused(lora, words):
    with pytest.raises(ConfigError, match=words):
        check_lora("rsft", lora)


def test_modules_that_the_model_does_not_have_are_refused_by_its_config_json():
    check_adapter("rsft", None, {})
    check_adapter("rsft", MINE, POLICY)
    check_adapter("rsft", MINE, {"model_type": "nobodys"})  # the worker will see
    with pytest.raises(ConfigError, match=r"rsft\.lora: .*q_prj"):
        check_adapter("rsft", {"target_modules": ["q_prj"]}, POLICY)
    with pytest.raises(ConfigError, match=r"output embeddings.*modules_to_save"):
        check_adapter("rsft", {"target_modules": ["lm_head"]}, POLICY | UNTIED)
    with pytest.raises(ConfigError, match="are one tensor in this model"):
        check_adapter("rsft", {"modules_to_save": ["lm_head"]}, POLICY | TIED)
    check_adapter("rsft", {"modules_to_save": ["lm_head"]}, POLICY | UNTIED)


TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


def test_a_plan_asks_the_model_of_a_training_for_the_modules():
    config = load(Stage1Config, "conf/miniature/stage1.yaml", ["rsft.lora.target_modules=[wq]"])
    use = use_of("rsft", "policy.model", "any", config.rsft)
    with pytest.raises(ConfigError, match=r"rsft\.lora: .*wq"):
        use.check("any", POLICY)


def test_parameters_of_an_adapter_are_counted_on_the_models_own_layers():
    # Of 32 layers: q is 4096 to 4096, v (8 of 32 heads) 4096 to 1024; two matrices of rank 16 each.
    by_hand = 32 * 16 * ((4096 + 4096) + (4096 + 1024))
    assert trained_by(LLAMA_8B, MINE) == by_hand
    last = MINE | {"layers_to_transform": [30, 31]}
    assert trained_by(LLAMA_8B, last) == by_hand // 16
    assert trained_by(LLAMA_8B, MINE | {"modules_to_save": ["lm_head"]}) == by_hand + 128256 * 4096
