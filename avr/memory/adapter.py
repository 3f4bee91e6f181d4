"""Put a LoRA adapter on a model as peft does it, and refuse one that could not be trained.

peft is imported inside the functions: it takes seconds.
"""

from collections.abc import Mapping
from typing import Any


class AdapterError(ValueError):
    """Signal an adapter that this model cannot take; the message says why."""


def lora_config(lora: Mapping[str, Any]) -> Any:
    """Make peft's configuration of an adapter for a model that generates.

    `lora` are fields of LoraConfig. Raises peft's ValueError or TypeError for values that do not
    fit together.
    """
    from peft import LoraConfig

    # Nested settings are copied: peft writes into them.
    settings: dict[str, Any] = {
        k: dict(v) if isinstance(v, Mapping) else v for k, v in lora.items()
    }
    return LoraConfig(task_type="CAUSAL_LM", **settings)


def adapted(model: Any, lora: Mapping[str, Any]) -> Any:
    """Return the model with a new adapter, everything else frozen. Raises AdapterError."""
    from peft import get_peft_model

    try:
        found = get_peft_model(model, lora_config(lora))
    except (ValueError, TypeError) as error:
        raise AdapterError(str(error).partition("\n")[0]) from error
    _check_embeddings(found)
    return found


def _check_embeddings(model: Any) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    base = model.get_base_model()
    last = base.get_output_embeddings()
    if isinstance(last, BaseTunerLayer):
        raise AdapterError(
            "TRL computes losses from the weights of the output embeddings, so that an adapter on"
            " them would never be trained; modules_to_save trains them in full"
        )
    ends = (base.get_input_embeddings(), last)
    if base.config.get_text_config().tie_word_embeddings and any(
        isinstance(end, BaseTunerLayer | ModulesToSaveWrapper) for end in ends
    ):
        raise AdapterError(
            "input and output embeddings are one tensor in this model, and a training of one of"
            " them cannot be written into it; leave embeddings out"
        )
