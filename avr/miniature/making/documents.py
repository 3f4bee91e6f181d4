"""Encode conversations as token ids with a loss mask, in batches of nearly equal length."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from avr.miniature.making.demonstrations import Turn
from avr.miniature.making.tokenizer import ROLES

#: The label that cross entropy skips.
IGNORED = -100
#: Documents drawn at a time and sorted by length, so that batches need little padding.
_POOL = 2048


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold `tokens` and `labels`: int64 [documents, longest]; labels are shifted by one."""

    tokens: torch.Tensor
    labels: torch.Tensor


def encode(
    tokenizer: PreTrainedTokenizerBase, documents: list[list[Turn]]
) -> list[tuple[list[int], list[int]]]:
    """Return (ids, labels) of each conversation; the ids are those of the chat template.

    Turns to be learned are labelled.
    """
    texts = [turn.text for document in documents for turn in document]
    pieces = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    role_ids = {role: tokenizer.convert_tokens_to_ids(f"<|{role}|>") for role in ROLES}
    rows = []
    for document in documents:
        ids, labels = [tokenizer.bos_token_id], [IGNORED]
        for turn in document:
            piece = [*next(pieces), tokenizer.eos_token_id]
            ids += [role_ids[turn.role], *piece]
            labels += [IGNORED, *(piece if turn.learn else [IGNORED] * len(piece))]
        rows.append((ids, labels))
    return rows


def batches(
    tokenizer: PreTrainedTokenizerBase,
    documents: Iterator[list[Turn]],
    num_tokens: int,
    rng: random.Random,
) -> Iterator[Batch]:
    """Make endless batches of at most `num_tokens` tokens, padding included."""
    while True:
        rows = encode(tokenizer, [next(documents) for _ in range(_POOL)])
        rows.sort(key=lambda row: len(row[0]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * len(row[0]) > num_tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from (_pad(group, tokenizer.pad_token_id) for group in groups)


def _pad(rows: list[tuple[list[int], list[int]]], pad_id: int) -> Batch:
    longest = max(len(ids) for ids, _ in rows)
    tokens = torch.full((len(rows), longest), pad_id)
    labels = torch.full((len(rows), longest), IGNORED)
    for place, (ids, targets) in enumerate(rows):
        tokens[place, : len(ids)] = torch.tensor(ids)
        labels[place, : len(ids) - 1] = torch.tensor(targets[1:])
    return Batch(tokens, labels)
