"""Models of the benchmarks that cost more and say the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from models.widened import widened
from safetensors.numpy import load_file

MODELS = Path(__file__).parents[3] / "avr" / "miniature" / "models"


def feed_forward(weights, layer, x):
    gate, up, down = (
        weights[f"model.layers.{layer}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down")
    )
    gated = x @ gate.T
    return (gated / (1 + np.exp(-gated)) * (x @ up.T)) @ down.T


@pytest.mark.parametrize("role", ["corrector", "reward"])
def test_says_the_same_at_more_cost(tmp_path, role):
    wide = Path(widened(MODELS / role, 3, tmp_path / role))
    before = load_file(MODELS / role / "model.safetensors")
    after = load_file(wide / "model.safetensors")
    configs = [json.loads((folder / "config.json").read_text()) for folder in (MODELS / role, wide)]
    sizes = [config["intermediate_size"] for config in configs]
    hidden = configs[0]["hidden_size"]
    assert sizes[1] == 3 * sizes[0]
    assert before.keys() == after.keys()
    x = np.random.default_rng(0).normal(size=(5, hidden)).astype(np.float32)
    for layer in range(3):
        assert after[f"model.layers.{layer}.mlp.up_proj.weight"].shape == (sizes[1], hidden)
        np.testing.assert_allclose(
            feed_forward(after, layer, x), feed_forward(before, layer, x), rtol=1e-4, atol=1e-4
        )
    others = [name for name in before if ".mlp." not in name]
    assert others
    assert all(np.array_equal(before[name], after[name]) for name in others)
