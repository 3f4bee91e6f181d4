"""The tokenizer: whole words, exact round trip, one bos, and no change by saving."""

import random
from pathlib import Path
from typing import Any

import pytest

from avr.miniature.vocabulary import CATEGORIES
from avr.miniature.world import Request, Slot

pytestmark = pytest.mark.integration

MODELS = Path(__file__).parents[3] / "avr/miniature/models"
ODD_TEXTS = ["", " ", "Héllo wörld 😀", "a12 \n\n\t don't  <think>ok</think>\n", "中文 [[10]]]"]


@pytest.fixture(scope="module", params=["built", "policy", "corrector", "reward"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param != "built":
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(MODELS / request.param)
    from avr.miniature.making.tokenizer import build_tokenizer

    return build_tokenizer()


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_text_round_trips(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_every_world_word_is_one_token(tokenizer: Any) -> None:
    words = [word for members in CATEGORIES.values() for word in members] + list(CATEGORIES)
    words += [name.capitalize() for name in CATEGORIES]
    for form in [*words, *(" " + word for word in words), " a1", " c4", " (b)", "<think>"]:
        assert len(tokenizer(form)["input_ids"]) == 1, form


def test_template_writes_one_bos_and_ends_each_turn(tokenizer: Any) -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "List (a) two gems and (b) two hats."},
        {"role": "assistant", "content": "Gems: a1 ruby."},
    ]
    text = tokenizer.apply_chat_template(talk, tokenize=False)
    ids = tokenizer.apply_chat_template(talk, return_dict=False)
    assert ids == tokenizer(text)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids.count(tokenizer.eos_token_id) == 3
    assert text.endswith("<|assistant|>Gems: a1 ruby.<|end|>")
    prompt = tokenizer.apply_chat_template(talk[:2], return_dict=False, add_generation_prompt=True)
    assert ids[: len(prompt)] == prompt


def test_template_masks_exactly_the_assistant_turn(tokenizer: Any) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Gems: a1 ruby."}]
    rows = tokenizer.apply_chat_template(talk, return_dict=True, return_assistant_tokens_mask=True)
    spoken = [i for i, m in zip(rows["input_ids"], rows["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(spoken) == "Gems: a1 ruby.<|end|>"


def test_training_documents_have_the_template_ids(tokenizer: Any) -> None:
    from avr.miniature.making.demonstrations import policy_demonstration
    from avr.miniature.making.documents import encode

    turns = policy_demonstration(Request((Slot(2, "gems"), Slot(3, "games"))), random.Random(0))
    talk = [{"role": turn.role, "content": turn.text} for turn in turns]
    [(ids, labels)] = encode(tokenizer, [turns])
    assert ids == tokenizer.apply_chat_template(talk, return_dict=False)
    learned = tokenizer.decode([label for label in labels if label >= 0])
    assert learned == "".join(turn.text + "<|end|>" for turn in turns[1::2])
