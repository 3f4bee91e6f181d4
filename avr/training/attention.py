"""Which of Transformers' attention implementations a model is trained with."""

from collections.abc import Mapping
from typing import Any

from avr.config.errors import ConfigError
from avr.config.training import TrainingConfig
from avr.engines.shape import text_part

# sdpa drops the caps of attention scores without a word, and so does flash attention where the
# installed package knows no `softcap`: the loss is then that of another model than the one served.
CAPPING = ("eager", "flex_attention")


def attention_for(name: str, training: TrainingConfig, config: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the model is loaded with beside the user's `model_init_kwargs`.

    `config` is the model's config.json. One that caps its attention scores
    (Gemma-2) is loaded with "eager". On a GPU that took 1.24 times as long as sdpa with rows of 450
    to 1,370 tokens, in no more memory (benchmarks/README.md); longer rows pay with the square of
    their length, heads x tokens x tokens scores of a layer. flex_attention keeps the caps without
    that, but it is compiled and has no backward pass on CPUs, so that no test of ours holds it to
    its word: it is for the user to ask for. Any other model is left to Transformers.
    Raises ConfigError where the user asks for an implementation that drops the caps.
    """
    cap = text_part(config).get("attn_logit_softcapping")
    if cap is None:
        return {}
    asked = (training.trl.get("model_init_kwargs") or {}).get("attn_implementation")
    if asked is None:
        return {"attn_implementation": "eager"}
    if asked not in CAPPING:
        raise ConfigError(
            f"{name}.trl.model_init_kwargs.attn_implementation is {asked!r}, which drops this "
            f"model's attn_logit_softcapping ({cap:g}): {' or '.join(CAPPING)} keep it"
        )
    return {}
