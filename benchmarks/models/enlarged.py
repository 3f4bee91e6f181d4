"""Enlarge a tiny model to the shape of a large one; it says the same but for rounding.

`widened.py` makes neurons only, which is enough on a CPU. On a GPU a decoding step reads all
weights and the keys and values of every sequence, and starts every layer's kernels: so this one has
the hidden size, neurons, keys and layers of `Size` (LLaMA-3-8B's), and nearly all of it is zero.
The vocabulary stays the tiny one, and heads keep their 32 numbers, so there are four times as many.
Added layers give nothing to the residual stream; norms are made up for the zeros that they average
over. The file is mostly holes: it takes no room on most disks.
"""

import json
import math
import shutil
import struct
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load_file


@dataclass(frozen=True)
class Size:
    """Set what the enlarged model's layers have; keys and values have `keys` numbers a token."""

    hidden: int = 4096
    neurons: int = 14336
    queries: int = 4096
    keys: int = 1024
    layers: int = 32


# The axes of a layer's weights, outputs first, as in torch.nn.Linear.
AXES = {
    "q_proj": ("queries", "hidden"),
    "k_proj": ("keys", "hidden"),
    "v_proj": ("keys", "hidden"),
    "o_proj": ("hidden", "queries"),
    "gate_proj": ("neurons", "hidden"),
    "up_proj": ("neurons", "hidden"),
    "down_proj": ("hidden", "neurons"),
    "input_layernorm": ("hidden",),
    "post_attention_layernorm": ("hidden",),
}


def enlarged(model, size, folder, dtype=torch.bfloat16):
    """Copy the model folder `model` to `folder`, as large as `size`; returns where it is.

    For models of Llama's form with their weights in one file and as many heads of keys as of
    queries. Head dimension and vocabulary stay what they are.
    """
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    assert heads == config["num_key_value_heads"], "a group of queries for each head of keys"
    dim = config["head_dim"]
    weights = {name: w.to(dtype) for name, w in load_file(folder / "model.safetensors").items()}
    first = {name: w for name, w in weights.items() if ".layers.0." in name}
    for layer in range(config["num_hidden_layers"], size.layers):
        for name, weight in first.items():
            weights[name.replace(".layers.0.", f".layers.{layer}.")] = torch.zeros_like(weight)
    shrink = config["hidden_size"] / size.hidden
    for name in [n for n in weights if n.endswith("norm.weight")]:
        weights[name] = weights[name] * math.sqrt(shrink)
    grouped = size.queries // size.keys
    _write(folder / "model.safetensors", weights, size, dim * grouped, dim)
    config |= {
        "hidden_size": size.hidden,
        "intermediate_size": size.neurons,
        "num_attention_heads": size.queries // dim,
        "num_key_value_heads": size.keys // dim,
        "num_hidden_layers": size.layers,
        "rms_norm_eps": config["rms_norm_eps"] * shrink,
        "dtype": str(dtype).removeprefix("torch."),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return str(folder)


def _write(file, weights, size, stride, dim):
    """Write every tensor at its new shape, and only the old numbers of it."""
    shapes = {name: _shape(name, weight, size) for name, weight in weights.items()}
    header, end = {}, 0
    kinds = {torch.bfloat16: "BF16", torch.float32: "F32"}
    for name, weight in weights.items():
        start, end = end, end + math.prod(shapes[name]) * weight.element_size()
        place = {"shape": list(shapes[name]), "data_offsets": [start, end]}
        header[name] = {"dtype": kinds[weight.dtype], **place}
    words = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    words += b" " * (-len(words) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(words)) + words)
        out.truncate(8 + len(words) + end)
    whole = np.memmap(file, np.uint8, "r+", offset=8 + len(words))
    for name, weight in weights.items():
        if not weight.any():
            continue
        bits = weight.view(torch.int16 if weight.element_size() == 2 else torch.int32).numpy()
        start, stop = header[name]["data_offsets"]
        there = whole[start:stop].view(bits.dtype).reshape(shapes[name])
        there[_places(name, bits.shape, stride, dim)] = bits
    whole.flush()


def _axes(name, weight):
    """Name what each axis of a weight is, None where it does not grow."""
    part = next((part for part in AXES if f".{part}." in name), None)
    if part is not None:
        return AXES[part][: weight.ndim]  # a bias is as long as the outputs
    return (None,) * (weight.ndim - 1) + ("hidden",)  # embeddings, the last norm, the reward head


def _shape(name, weight, size):
    axes = zip(_axes(name, weight), weight.shape, strict=True)
    return tuple(old if axis is None else getattr(size, axis) for axis, old in axes)


def _places(name, shape, stride, dim):
    """Place the old numbers: to the front; a head of queries to the front of its group."""
    part = next((part for part in AXES if f".{part}." in name), "")
    axes = AXES.get(part, ("",) * len(shape))
    index = [np.arange(n) for n in shape]
    for at, axis in enumerate(axes[: len(shape)]):
        if axis == "queries":
            heads = index[at] // dim
            index[at] = heads * stride + index[at] % dim
    return np.ix_(*index)
