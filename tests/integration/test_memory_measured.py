"""The memory that is worked out against memory that was measured on a GPU."""

import json
from pathlib import Path

import pytest

from avr.memory.dry_run import saved_by
from avr.memory.model import GIB


@pytest.mark.parametrize(
    ("arms", "tokens"),
    [
        # The largest batch of each arm, see benchmarks/gpu_training.py: rows side by side, padded.
        (("rsft, padded, sdpa, no checkpointing", "rsft, padded, sdpa"), 1370),
        (("dpo, sdpa, no checkpointing", "dpo, sdpa"), 310 + 820),
    ],
    ids=["rsft", "dpo"],
)
def test_what_checkpointing_saves_of_8b_is_what_was_measured_on_a_gpu(arms, tokens):
    """Within 6%, of an H200; layers, weights and gradients are the same in both arms."""
    report = json.loads(Path("benchmarks/results/gpu_training.json").read_text())
    without, with_it = (report["arms"][arm]["memory_gib"] for arm in arms)
    llama = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": 32,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
    }
    saved = saved_by(llama, 2, tokens)
    worked_out = (saved.total(32, False) - saved.total(32, True)) / GIB
    print(f"measured {without - with_it:.1f} GiB, worked out {worked_out:.1f} GiB")
    assert worked_out == pytest.approx(without - with_it, rel=0.06)
