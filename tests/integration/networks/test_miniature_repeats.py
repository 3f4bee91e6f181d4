"""The widened base: it says what the base said, and one head finds a word's earlier place."""

import copy
import random

import pytest
import torch

from avr.miniature.making.demonstrations import (
    CORRECTOR,
    corrector_demonstration,
    draw_answer,
    draw_fault,
)
from avr.miniature.making.documents import encode
from avr.miniature.making.networks import new_language_model
from avr.miniature.making.repeats import protect, see_repeats
from avr.miniature.making.tokenizer import build_tokenizer
from avr.miniature.prompts import draw_requests
from avr.miniature.world import render_answer, render_prompt

pytestmark = [pytest.mark.integration, pytest.mark.long]
HEAD = 4  # the first of the new ones
TOKENIZER = build_tokenizer()


@pytest.fixture(scope="module")
def models():
    base = new_language_model(TOKENIZER, seed=3)
    torch.manual_seed(0)
    return base, see_repeats(base, TOKENIZER)


def test_a_widened_base_says_nearly_what_it_said(models):
    base, new = models
    for ids in talks(10):
        with torch.no_grad():
            before, after = (model(ids).logits.flatten() for model in models)
        assert torch.corrcoef(torch.stack((before, after)))[0, 1] > 0.98
    assert new.config.hidden_size == base.config.hidden_size + 32


def test_the_head_of_the_second_layer_finds_where_the_word_was(models):
    _, new = models
    rng = random.Random(1)
    requests = draw_requests("train", rng)
    for _ in range(30):
        request = next(requests)
        right = draw_answer(request, CORRECTOR, rng)
        spoilt, (row, place) = draw_fault(request, right, "repeated", rng)
        word = spoilt.lists[row][place]
        earlier = spoilt.lists[row].index(word)
        ids = tokens(render_prompt(request), render_answer(request, spoilt))
        with torch.no_grad():
            attention = new.model(ids, output_attentions=True).attentions[1][0, HEAD]
        at = [at for at, token in enumerate(ids[0]) if TOKENIZER.decode(token).strip() == word]
        assert len(at) == 2 and earlier < place
        assert attention[at[1], at[0] + 1] > 0.5  # what follows its earlier place
        assert attention[at[0], 0] > 0.5  # there was none: the start


def test_training_leaves_codes_and_heads_alone(models):
    new = copy.deepcopy(models[1])
    protect(new)
    kept = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    optimiser = torch.optim.AdamW(new.parameters(), lr=0.01, weight_decay=0.0)
    for ids in talks(3):
        new(ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    now = new.state_dict()
    embeddings = "model.embed_tokens.weight"
    assert torch.equal(now[embeddings][:, 128:], kept[embeddings][:, 128:])
    assert not torch.equal(now[embeddings][:, :128], kept[embeddings][:, :128])
    for layer in (0, 1):
        name = f"model.layers.{layer}.self_attn.k_proj.weight"
        assert torch.equal(now[name][128:], kept[name][128:])
        assert not torch.equal(now[name][:128], kept[name][:128])
    written = "model.layers.0.mlp.down_proj.weight"
    assert torch.equal(now[written][128:], torch.zeros_like(now[written][128:]))


def talks(number):
    rng = random.Random(2)
    requests = draw_requests("train", rng)
    drawn = [corrector_demonstration(next(requests), rng) for _ in range(number)]
    return [torch.tensor([ids]) for ids, _ in encode(TOKENIZER, drawn)]


def tokens(prompt, answer):
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return TOKENIZER.apply_chat_template(turns, return_tensors="pt", return_dict=True)["input_ids"]
