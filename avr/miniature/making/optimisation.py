"""Train language models this small in one loop: Muon for matrices, AdamW for the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from avr.miniature.making.documents import IGNORED, Batch

_LOG_EVERY = 20
_WARM_UP = 30


class Optimiser:
    """Apply Muon to the layers' matrices, and AdamW to embeddings, biases, norms and heads.

    The rate of both follows one trapezoid: warm-up, constant, linear decay over the last third.
    There is no decay where another stage trains on from here.
    """

    def __init__(
        self, module: torch.nn.Module, num_steps: int, rate: float, *, decay: bool = True
    ) -> None:
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if p.ndim == 2 and "layers." in n]
        others = [p for n, p in named if not (p.ndim == 2 and "layers." in n)]
        self._parts = [
            # No weight decay: it would wear away the weights that `repeats.protect` protects.
            torch.optim.Muon(matrices, lr=0.02 * rate, weight_decay=0.0),
            torch.optim.AdamW(others, lr=0.004 * rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._peaks = [part.param_groups[0]["lr"] for part in self._parts]
        self._parameters = [p for _, p in named]
        self._num_steps = num_steps
        self._decay = decay

    def step(self, index: int) -> None:
        """Clip, apply and clear the gradients of step `index` (from 0)."""
        scale = min(1.0, (index + 1) / _WARM_UP)
        if self._decay:
            scale = min(scale, 3 * (self._num_steps - index) / self._num_steps)
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for part, peak in zip(self._parts, self._peaks, strict=True):
            part.param_groups[0]["lr"] = peak * scale
            part.step()
            part.zero_grad(set_to_none=True)


def train_language_model(
    model: LlamaForCausalLM,
    stream: Iterator[Batch],
    num_steps: int,
    rate: float,
    *,
    decay: bool = True,
    snapshot: Callable[[], None] | None = None,
    snapshot_every: int = 400,
) -> None:
    """Train in place on learned turns; `rate` scales the step sizes (1: from scratch)."""
    optimiser = Optimiser(model, num_steps, rate, decay=decay)
    model.train()
    started, seen, total = time.monotonic(), 0, 0.0
    for index in range(num_steps):
        batch = next(stream)
        loss = _loss(model, batch)
        loss.backward()
        optimiser.step(index)
        seen += batch.tokens.numel()
        total += loss.item()
        if (index + 1) % _LOG_EVERY == 0:
            speed = seen / (time.monotonic() - started)
            print(f"step {index + 1} loss {total / _LOG_EVERY:.4f} {speed:.0f} tok/s", flush=True)
            total = 0.0
        if snapshot and (index + 1) % snapshot_every == 0:
            snapshot()
            model.train()


def _loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Return the mean cross entropy of the labelled positions; only these have logits computed."""
    hidden = model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
    wanted = batch.labels != IGNORED
    return functional.cross_entropy(model.lm_head(hidden[wanted]), batch.labels[wanted])
