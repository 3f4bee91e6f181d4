"""Choose the attention implementation of Transformers that a model is trained with."""

from collections.abc import Mapping
from typing import Any

from avr.config.errors import ConfigError
from avr.config.training import TrainingConfig
from avr.engines.shape import text_part

# sdpa drops the caps of attention scores without a warning, and so does flash attention where the
# installed package knows no `softcap`. The loss is then not the loss of the model that is served.
CAPPING = ("eager", "flex_attention")


def attention_for(name: str, training: TrainingConfig, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments to load the model with, beside the user's `model_init_kwargs`.

    `config` is the model's config.json. A model that caps its attention scores (Gemma-2) is loaded
    with "eager". On a GPU this took 1.24 times as long as sdpa with rows of 450 to 1,370 tokens, in
    no more memory (benchmarks/README.md). The cost grows with the square of a row's length: a layer
    has heads x tokens x tokens scores. flex_attention keeps the caps without that cost. But it is
    compiled and has no backward pass on CPUs, so none of our tests covers it, and the user must ask
    for it. For any other model Transformers chooses.
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
