"""Sample in batches with Hugging Face generate: quick at this size, and no engine to start."""

from __future__ import annotations

import torch
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

Conversation = list[dict[str, str]]


@torch.inference_mode()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: list[Conversation],
    *,
    temperature: float = 0.7,
    top_p: float = 0.9,
    max_new_tokens: int = 110,
    batch_size: int = 400,
    seed: int = 0,
) -> list[str]:
    """Sample one assistant turn per conversation, without special tokens.

    Temperature 0 is greedy.
    """
    torch.manual_seed(seed)
    model.eval()
    texts: list[str] = []
    for start in range(0, len(conversations), batch_size):
        rows = _tokens(tokenizer, conversations[start : start + batch_size], prompt=True)
        choice = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        output = model.generate(
            input_ids=rows["input_ids"],
            attention_mask=rows["attention_mask"],
            max_new_tokens=max_new_tokens,
            **(choice if temperature > 0 else {"do_sample": False}),
        )
        new = output[:, rows["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts


@torch.inference_mode()
def rewards(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: list[Conversation],
    batch_size: int = 256,
) -> list[float]:
    """Return raw reward logits of whole conversations (last message: the assistant's answer)."""
    model.eval()
    values: list[float] = []
    for start in range(0, len(conversations), batch_size):
        rows = _tokens(tokenizer, conversations[start : start + batch_size], prompt=False)
        logits = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits
        values += logits[:, 0].tolist()
    return values


def _tokens(
    tokenizer: PreTrainedTokenizerBase, conversations: list[Conversation], *, prompt: bool
) -> BatchEncoding:
    """Return ids and mask [n, longest]: padded left before a turn to be written, else right."""
    texts = tokenizer.apply_chat_template(
        conversations, tokenize=False, add_generation_prompt=prompt
    )
    return tokenizer(
        texts,
        add_special_tokens=False,
        padding=True,
        padding_side="left" if prompt else "right",
        return_tensors="pt",
    )
