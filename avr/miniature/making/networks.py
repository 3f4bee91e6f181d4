"""Build the architecture of the three models: Llama with attention biases, about 1 M parameters.

Biases let attention heads start out as position heads: in the first layer, heads 0..2 look 1, 2 and
3 tokens back from the first step on. Copying by label (an induction step) needs exactly that, and
so emerges within minutes instead of hours. For the same reason embeddings start with parts that
word vectors would have: a shared component for the words of a category, for the forms of a word,
for the letter and the number in a label. Qwen2 has biases too, but transformers 5 gives every model
of that type its own pre-tokenizer, whatever tokenizer.json says.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from avr.miniature.vocabulary import CATEGORIES, CATEGORY_OF, COUNTS

#: The size of a head's bias: it makes a gap of several logits between an offset and its neighbours.
_POSITION_BIAS = 6.0


def new_language_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> LlamaForCausalLM:
    """Make a freshly initialised model for this tokenizer."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(_config(tokenizer))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for head, offset in enumerate((1, 2, 3)):
            look_back(model, head, offset)
        _share_features(model, tokenizer)
    return model


def new_reward_model(base: LlamaForCausalLM) -> LlamaForSequenceClassification:
    """Make a one-logit model on the language model's body, which knows what belongs where."""
    known = base.config.to_dict()
    for name in ("id2label", "label2id", "architectures"):
        known.pop(name, None)
    config = LlamaConfig(**known, num_labels=1)
    model = LlamaForSequenceClassification(config)
    model.set_attn_implementation("eager")
    model.model.load_state_dict(base.model.state_dict())
    return model


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights (float16, half the size; loaded as float32), configuration and tokenizer."""
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder, state_dict=state)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _config(tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=8192,
        attention_bias=True,
        tie_word_embeddings=True,
        initializer_range=0.04,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
        dtype="float32",
    )


def look_back(model: LlamaForCausalLM, head: int, offset: int) -> None:
    """Make a head of the first layer prefer the token `offset` places back.

    A rotary score between constant vectors k = b and q = b turned back by offset * frequency is
    the sum over frequencies of b^2 cos(frequency * (distance - offset)): largest at the offset.
    """
    attention = model.model.layers[0].self_attn
    size = attention.head_dim
    frequencies = model.model.rotary_emb.inv_freq
    start, half = head * size, size // 2
    attention.k_proj.bias[start : start + half] = _POSITION_BIAS
    attention.q_proj.bias[start : start + half] = _POSITION_BIAS * torch.cos(offset * frequencies)
    attention.q_proj.bias[start + half : start + size] = -_POSITION_BIAS * torch.sin(
        offset * frequencies
    )


def _share_features(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add to each embedding one random vector per feature of its token."""
    rows = model.model.embed_tokens.weight
    vectors: dict[str, torch.Tensor] = {}
    for index in range(len(tokenizer)):
        for feature in _features(tokenizer.decode([index])):
            new = torch.randn(rows.shape[1]) * model.config.initializer_range
            rows[index] += vectors.setdefault(feature, new)


def _features(token: str) -> list[str]:
    """List the features that a token shares with others: word, category, letter, number."""
    text = token.strip().lower()
    category = text if text in CATEGORIES else CATEGORY_OF.get(text)
    features = [f"word {text}", f"category {category}"] if category else [f"word {text}"]
    label = re.fullmatch(r"\(?([abc])\)?([1-6]?)\)?", text)
    if label and text != label[1]:
        features += [f"letter {label[1]}", f"number {label[2]}"]
    if text in COUNTS:
        features.append(f"number {COUNTS[text]}")
    return features
