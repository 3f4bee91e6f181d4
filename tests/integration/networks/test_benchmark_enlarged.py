"""Enlarged models say what the small ones say, and the GPU's training steps are what they claim."""

from argparse import Namespace
from pathlib import Path

import gpu_training
import pytest
import torch
import transformers
from models.enlarged import Size, enlarged

pytestmark = [pytest.mark.integration, pytest.mark.long]
MODELS = Path(__file__).parents[3] / "avr/miniature/models"
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
    assert after.num_parameters() > 4 * before.num_parameters()
    assert after.config.num_hidden_layers == 5
    ids = torch.tensor([[5, 9, 300, 44, 812, 7]])
    with torch.no_grad():
        assert torch.allclose(before(ids).logits, after(ids).logits, atol=2e-4)
        half = kind.from_pretrained(large, dtype=torch.bfloat16)(ids).logits.float()
    # A head with large scores turns sharply: single logits move by more in bfloat16, few do.
    assert (half - before(ids).logits).abs().mean() < 0.25


@pytest.fixture
def tiny(monkeypatch):
    for name in ("LENGTHS", "PAIRS", "VOCABULARY"):
        monkeypatch.setattr(gpu_training, name, getattr(gpu_training, name))
    gpu_training._make_tiny()
    arguments = Namespace(tiny=True, layers=1)
    return gpu_training._model(arguments, "sdpa", False, torch.device("cpu")).float()


def gradients(model, step):
    torch.manual_seed(1)  # the rows are drawn in one order by all steps
    model.zero_grad()
    tokens = step(model, torch.device("cpu"))
    return tokens, torch.cat([p.grad.flatten() for p in model.parameters()])


def test_every_step_trains_on_all_its_tokens(tiny):
    tokens, padded = gradients(tiny, gpu_training.rsft_padded)
    assert tokens == sum(gpu_training.LENGTHS) and padded.abs().sum() > 0
    tokens, known = gradients(tiny, gpu_training.dpo)
    assert tokens == sum(p + a for pair in gpu_training.PAIRS for p, a in pair)
    assert known.abs().sum() > 0


def test_packed_rows_do_not_see_each_other(tiny):
    rows = gpu_training._rows(gpu_training.LENGTHS[:3])
    places = torch.cat([torch.arange(len(row)) for row in rows])[None]
    with torch.no_grad():
        packed = tiny(input_ids=torch.cat(rows)[None], position_ids=places).logits[0]
        alone = torch.cat([tiny(input_ids=row[None]).logits[0] for row in rows])
    assert torch.allclose(packed, alone, atol=1e-4)
