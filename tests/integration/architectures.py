"""Tiny random models of the architectures that recipes name beside Llama, made on the spot."""

from pathlib import Path

import training_models as tm


def write_qwen2(folder: Path, seed: int = 0) -> Path:
    """A Qwen2 with shared embeddings that says letters only."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = tm.tokenizer_of("chatml")
    torch.manual_seed(seed)
    config = Qwen2Config(
        **_shape(tokenizer),
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return _written(_saying_letters(Qwen2ForCausalLM(config), tokenizer), tokenizer, folder)


def write_gemma2(
    folder: Path, seed: int = 0, *, cap: float | None = 2.0, scores: bool = False
) -> Path:
    """A Gemma-2 whose attention is far above its cap; it says letters only.

    With `scores` it is a classifier with one logit.
    """
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma2ForSequenceClassification

    tokenizer = tm.tokenizer_of("ours")
    torch.manual_seed(seed)
    config = Gemma2Config(
        **_shape(tokenizer),
        head_dim=32,
        query_pre_attn_scalar=32,
        attn_logit_softcapping=cap,
        initializer_range=0.5,
        **({"num_labels": 1} if scores else {}),
    )
    if scores:
        return _written(Gemma2ForSequenceClassification(config), tokenizer, folder)
    model = _saying_letters(Gemma2ForCausalLM(config), tokenizer)
    with torch.no_grad():  # or it would say one letter, that of its last token, over and over
        model.model.embed_tokens.weight *= 0.1
    return _written(model, tokenizer, folder)


def _saying_letters(model, tokenizer):
    """The model, whose embeddings are shared, with all tokens zero but those of letters."""
    import torch

    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    unspeakable = [i for i, token in enumerate(tokens) if not token.strip("Ġ").isascii()]
    with torch.no_grad():
        model.model.embed_tokens.weight[[*unspeakable, *tokenizer.all_special_ids]] = 0
    return model


def _shape(tokenizer) -> dict:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,  # heads of 32: the smallest that vLLM attends to on CPUs
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
    }


def _written(model, tokenizer, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
