"""Make a tiny model as costly as a larger one; it says the same but for rounding.

The engine's overhead beside a model of half a million parameters says little about one that is
worth a cluster. The feed-forward layers get neurons whose weights are all zero: they add nothing to
any sum, and cost as much as others. So texts, lengths and ratings stay sensible, as those of random
weights would not.
"""

import json
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

OUTPUTS = ("gate_proj.weight", "up_proj.weight")  # of shape (neurons, hidden)
INPUTS = ("down_proj.weight",)  # (hidden, neurons)


def widened(model, factor, folder):
    """Copy the model folder `model` to `folder`, with `factor` times as many neurons a layer.

    For models of Llama's form, with their weights in one file. Returns where the model is: one
    time as many is `model` itself.
    """
    if factor == 1:
        return model
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["intermediate_size"] *= factor
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({name: _wide(name, w, factor) for name, w in weights.items()}, file, {"format": "pt"})
    return str(folder)


def _wide(name, weight, factor):
    if name.endswith(OUTPUTS):
        return np.pad(weight, ((0, weight.shape[0] * (factor - 1)), (0, 0)))
    if name.endswith(INPUTS):
        return np.pad(weight, ((0, 0), (0, weight.shape[1] * (factor - 1))))
    return weight
