"""Packed rows are learned as rows of their own, in several sequences, batches and ranks."""

import pytest
import torch
import training_models as tm

from avr.training.launch import train
from avr.training.methods.rsft import Rsft
from avr.training.rows import IGNORED

pytestmark = pytest.mark.integration
# Of 96 to 127 tokens, and one of 213: two of the others fit into a sequence, beside it none.
NUM_WORDS = (13, 14, 15, 16, 17, 13, 29)


def summed_loss(model, columns):
    with torch.no_grad():
        loss = model(**{name: torch.tensor([ids]) for name, ids in columns.items()}).loss
    return loss.item() * sum(label != IGNORED for label in columns["labels"][1:])


# In the first as the recipe for large models has it. Sequences of one batch are joined to one.
@pytest.mark.parametrize(("batch", "batches"), [(1, 2), (2, 1)])
def test_packed_rows_are_learned_as_rows_of_their_own(ray_cluster, tmp_path, batch, batches):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tm.write_model(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = [tm.rsft_row(i, num_words) for i, num_words in enumerate(NUM_WORDS)]
    encoded = [Rsft().encode(tokenizer, row) for row in rows]
    num_learned = sum(one.num_loss_tokens for one in encoded)
    apart = sum(summed_loss(model, one.columns) for one in encoded) / num_learned
    end_to_end = {
        name: [each for one in encoded for each in one.columns[name]]
        for name in ("input_ids", "labels")
    }
    seen = summed_loss(model, end_to_end) / num_learned
    assert abs(seen - apart) > 1e-3  # or what rows see of each other would not show

    packed = {  # four sequences in one step of two ranks
        "packing": True,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": batches,
        "gradient_checkpointing": True,
        "num_train_epochs": 1,
        "logging_steps": 1,
    }
    file = tm.write_rows(tmp_path / "rows.parquet", rows)
    config = tm.on_cpus(packed)
    result = train(
        "rsft", Rsft(), config, tmp_path / "model", file, tmp_path / "out", say=lambda _: None
    )
    assert (result.num_trained, result.num_steps) == (7, 1)
    assert result.metrics["train_loss"] == pytest.approx(apart, abs=1e-5)
