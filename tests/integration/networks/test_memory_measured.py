"""The memory that is worked out against memory that was measured: on this machine, and on a GPU.

A training step of one rank runs in a process of its own, without DeepSpeed, in float32. What the
process grows by is compared, and to the byte what PyTorch saves for the backward pass.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avr.memory.dry_run import model_of, saved_by
from avr.memory.model import GIB
from avr.memory.training import Training, states

pytestmark = pytest.mark.integration
CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "num_hidden_layers": 8,
    "vocab_size": 2048,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
ROWS, LENGTH = 4, 256
STEP = """
import json, sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM

config, rows, length, checkpointing = json.loads(sys.argv[1])
torch.set_num_threads(1)


def high_water():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024


def steps(shape, config, saved):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    adam = torch.optim.AdamW(model.parameters(), fused=True)

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids, mask = torch.zeros(shape, dtype=torch.long), torch.ones(shape, dtype=torch.long)
    mask[0, -1] = 0  # padded: so attention takes a mask, as in the dry run
    for _ in range(2):
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        hidden.last_hidden_state.sum().backward()
        kept = sum(saved.values())
        adam.step()
        adam.zero_grad(set_to_none=False)  # DeepSpeed keeps its gradients as well
    state = sum(t.nbytes for s in adam.state.values() for t in s.values() if t.dim())
    return kept, state


steps((1, 16), config | {"num_hidden_layers": 1, "hidden_size": 64}, {})  # libraries are loaded
open("/proc/self/clear_refs", "w").write("5")
before = high_water()
kept, state = steps((rows, length), config, {})
print(json.dumps({"grown": high_water() - before, "kept": kept, "state": state}))
"""


def measured(checkpointing):
    asked = json.dumps([CONFIG, ROWS, LENGTH, checkpointing])
    # So that malloc gives back what is freed: else the high water is that of its own pools.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    run = subprocess.run(
        [sys.executable, "-c", STEP, asked],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed again"])
def test_a_training_step_takes_the_memory_that_is_worked_out(checkpointing):
    """Within 5%; seen were 769 MiB of 765, and 467 of 465."""
    seen = measured(checkpointing)
    model, saved = model_of(CONFIG), saved_by(CONFIG, ROWS, LENGTH, bits=32)
    rank = Training(1, 0, 4, ROWS, LENGTH, deepspeed=False, gradient_width=4)
    worked_out = states(model.parameters, rank) + saved.total(8, checkpointing)
    print(f"measured {seen['grown'] / 2**20:.0f} MiB, worked out {worked_out / 2**20:.0f} MiB")
    assert seen["state"] == 8 * sum_of_hidden_parameters(model)
    assert worked_out == pytest.approx(seen["grown"], rel=0.05)
    if not checkpointing:
        assert saved.total(8, False) == pytest.approx(seen["kept"], rel=0.01)


def sum_of_hidden_parameters(model):
    """All but the head's, which has no gradient in these steps and so no state."""
    return model.parameters - model.vocabulary * model.hidden


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
