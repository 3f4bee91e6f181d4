"""Which attention a model is trained with: one that keeps the caps of Gemma-2's scores."""

import pytest
from configured import uses_of

from avr.config.errors import ConfigError
from avr.config.roles import RoleConfig
from avr.config.training import TrainingConfig
from avr.plan.models import check_models
from avr.recipes.stage1 import Stage1Config
from avr.training.attention import attention_for

CAPPED = {"attn_logit_softcapping": 50.0}
DROPPED = (
    "dpo.trl.model_init_kwargs.attn_implementation is 'sdpa', which drops this model's "
    "attn_logit_softcapping (50): eager or flex_attention keep it"
)


def asking(attention):
    """A training whose user asks for an implementation; None asks for none."""
    return TrainingConfig(trl={"model_init_kwargs": {"attn_implementation": attention}})


@pytest.mark.parametrize("config", [CAPPED, {"text_config": CAPPED}])
def test_a_model_that_caps_its_scores_is_loaded_with_an_attention_that_does(config):
    assert attention_for("rsft", TrainingConfig(), config) == {"attn_implementation": "eager"}
    assert attention_for("rsft", asking(None), config) == {"attn_implementation": "eager"}
    for asked in ("eager", "flex_attention"):  # the user's own stays
        assert attention_for("rsft", asking(asked), config) == {}
    with pytest.raises(ConfigError) as caught:
        attention_for("dpo", asking("sdpa"), config)
    assert str(caught.value) == DROPPED
    with pytest.raises(ConfigError, match="'flash_attention_2', which drops"):
        attention_for("rsft", asking("flash_attention_2"), config)


@pytest.mark.parametrize("config", [{}, {"attn_logit_softcapping": None}])
def test_any_other_model_is_left_to_transformers_and_the_user(config):
    assert attention_for("rsft", TrainingConfig(), config) == {}
    assert attention_for("rsft", asking("sdpa"), config) == {}


def test_a_wrong_attention_of_either_training_is_found_before_anything_starts(tmp_path):
    (tmp_path / "config.json").write_text('{"attn_logit_softcapping": 50.0}')
    (tmp_path / "chat_template.jinja").write_text("a template")
    policy, judge = RoleConfig(model=str(tmp_path)), RoleConfig(model="judge")
    config = Stage1Config(policy=policy, reward_model=judge, dpo=asking("sdpa"))
    trainings = [use for use in uses_of(config) if use.name == "policy.model"]
    with pytest.raises(ConfigError) as caught:
        check_models(trainings)
    assert str(caught.value) == DROPPED
    config.dpo = asking("eager")
    check_models([use for use in uses_of(config) if use.name == "policy.model"])
