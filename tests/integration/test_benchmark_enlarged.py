"""The enlarged models of the benchmarks say what the small ones say."""

from pathlib import Path

import pytest
import torch
import transformers
from enlarged import Size, enlarged

MODELS = Path(__file__).parents[2] / "avr/miniature/models"
SIZE = Size(hidden=256, neurons=512, queries=512, keys=256, layers=5)


@pytest.mark.parametrize(
    ("role", "kind"),
    [
        ("policy", transformers.AutoModelForCausalLM),
        ("reward", transformers.AutoModelForSequenceClassification),
    ],
)
def test_an_enlarged_model_is_larger_and_says_the_same(role, kind, tmp_path):
    large = Path(enlarged(MODELS / role, SIZE, tmp_path / role, torch.float32))
    before, after = kind.from_pretrained(MODELS / role), kind.from_pretrained(large)
    assert after.num_parameters() > 5 * before.num_parameters()
    assert after.config.num_hidden_layers == 5
    ids = torch.tensor([[5, 9, 300, 44, 812, 7]])
    with torch.no_grad():
        assert torch.allclose(before(ids).logits, after(ids).logits, atol=2e-4)
        half = kind.from_pretrained(large, dtype=torch.bfloat16)(ids).logits.float()
    assert (half - before(ids).logits).abs().max() < 0.5
