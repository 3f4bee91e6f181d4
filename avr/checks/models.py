"""Prepare the tiny models: every machine can load them, and tensor parallelism can split them."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from avr.engines.weights import local_model
from avr.storage import Location, copy, is_remote, location

# The axis of the heads in a layer's weights: outputs of the first three, inputs of the last.
_HEADS = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "o_proj": 1}


def prepared(model: str, to: Location, parallel: int = 1) -> str:
    """Copy a model folder to `to` and return its place; return a hub model's name as it is.

    vLLM splits heads over `parallel` devices evenly, and the miniature models have five. The copy
    has as many more heads as that takes; they add nothing to the model's texts.
    """
    if not Path(model).is_dir() and not is_remote(location(model)):
        return model
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary) / "model"
        shutil.copytree(local_model(model), here)
        widen_heads(here, parallel)
        copy(here, to)
    return str(to)


def widen_heads(folder: Path, parallel: int) -> None:
    """Give the model in `folder` silent heads until `parallel` divides their number.

    A head whose query, key, value and output weights are all zero adds zero to the residual stream.
    Only models of Llama's form with as many heads of keys as of queries, in one file, are changed.
    Of other models vLLM says by itself whether it can split them.
    """
    file, settings = folder / "model.safetensors", folder / "config.json"
    config = json.loads(settings.read_text())
    heads = config.get("num_attention_heads", 0)
    if heads % parallel == 0 or not file.exists():
        return
    if config.get("num_key_value_heads", heads) != heads or "head_dim" not in config:
        return
    # Transformers wants this to be a multiple of the number of heads.
    hidden = config["hidden_size"]
    fitting = (n for n in range(heads, hidden + 1) if n % parallel == 0 and hidden % n == 0)
    wanted = next(fitting, None)
    if wanted is None:
        return
    from safetensors.torch import load_file, save_file

    added = (wanted - heads) * config["head_dim"]
    weights = {name: _longer(name, weight, added) for name, weight in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    changes = {"num_attention_heads": wanted, "num_key_value_heads": wanted}
    settings.write_text(json.dumps(config | changes, indent=2))


def _longer(name: str, weight: Any, added: int) -> Any:
    """Return the weight with zeros for `added` more numbers of heads, where it has heads."""
    import torch

    axis = next((axis for part, axis in _HEADS.items() if f".{part}." in name), None)
    if axis is None or axis >= weight.ndim:  # o_proj's bias has no heads
        return weight
    shape = list(weight.shape)
    shape[axis] = added
    return torch.cat([weight, weight.new_zeros(shape)], dim=axis).contiguous()
