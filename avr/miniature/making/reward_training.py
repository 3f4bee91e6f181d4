"""Train the reward model: Bradley-Terry on pairs of answers that the oracle ranks, mildly biased.

The label prefers quality + `LENGTH_BIAS` per word: a known, small weakness for length, such as real
reward models have. While the model is trained, an auxiliary head reads the verdict on every word of
the answer from the same body: a dense signal besides one bit per pair. It is dropped afterwards.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import (
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerBase,
)

from avr.miniature.making.demonstrations import POLICY, draw_answer, draw_fault_profile
from avr.miniature.making.networks import new_reward_model
from avr.miniature.making.optimisation import Optimiser
from avr.miniature.making.repeats import protect
from avr.miniature.oracle import answer_quality, true_verdicts
from avr.miniature.prompts import draw_requests
from avr.miniature.world import (
    LETTERS,
    MAX_ITEMS,
    VERDICTS,
    Answer,
    Request,
    render_answer,
    render_prompt,
)

#: Quality that one word of length is worth to the labels.
LENGTH_BIAS = 0.001
#: Share of answers of any kind whose faults are repeats and little else.
_REPEATS = 0.3
#: Answers per prompt, all pairs of which are compared.
_GROUP = 4
_PROMPTS_PER_BATCH = 16
_LOG_EVERY = 20
_LABELS = tuple(f" {letter}{n}" for letter in LETTERS for n in range(1, MAX_ITEMS + 1))


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold an answer, its text and its worth to the labels."""

    request: Request
    answer: Answer
    text: str
    worth: float


def judge(request: Request, answer: Answer) -> Judged:
    """Attach the biased worth to an answer."""
    text = render_answer(request, answer)
    worth = answer_quality(request, answer) + LENGTH_BIAS * len(text.split())
    return Judged(request, answer, text, worth)


def train_reward_model(
    base: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    num_steps: int,
    seed: int,
) -> LlamaForSequenceClassification:
    """Train on groups of `_GROUP` answers per prompt; return the one-logit model."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    model = new_reward_model(base)
    protect(model)
    verdict_head = torch.nn.Linear(model.config.hidden_size, len(VERDICTS))
    trained = torch.nn.ModuleDict({"model": model, "head": verdict_head})
    optimiser = Optimiser(trained, num_steps, rate=0.5)
    requests = draw_requests("train", rng)
    model.train()
    started, totals = time.monotonic(), [0.0, 0.0, 0.0]
    for index in range(num_steps):
        groups = [_draw_group(next(requests), rng) for _ in range(_PROMPTS_PER_BATCH)]
        preference, verdict, accuracy = _losses(model, verdict_head, tokenizer, groups)
        (preference + verdict).backward()
        optimiser.step(index)
        for place, value in enumerate((preference, verdict, accuracy)):
            totals[place] += value.item()
        if (index + 1) % _LOG_EVERY == 0:
            means = " ".join(f"{total / _LOG_EVERY:.3f}" for total in totals)
            spent = time.monotonic() - started
            print(f"step {index + 1} loss, verdicts, accuracy: {means} {spent:.0f} s", flush=True)
            totals = [0.0, 0.0, 0.0]
    return model


def _draw_group(request: Request, rng: random.Random) -> list[Judged]:
    """Draw two answers of the policy's kind, and two of any kind from faultless to mostly wrong."""
    any_kind = (draw_fault_profile(rng, _REPEATS) for _ in range(2))
    profiles = [POLICY, POLICY, *any_kind]
    return [judge(request, draw_answer(request, profile, rng)) for profile in profiles]


def _losses(
    model: LlamaForSequenceClassification,
    verdict_head: torch.nn.Linear,
    tokenizer: PreTrainedTokenizerBase,
    groups: list[list[Judged]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (Bradley-Terry loss, verdict loss, pairwise accuracy), each a scalar."""
    flat = [judged for group in groups for judged in group]
    tokens, last, places, verdicts = _tensors(tokenizer, flat)
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
    rewards = model.score(hidden[torch.arange(len(flat)), last])[:, 0].view(-1, _GROUP)
    worths = torch.tensor([judged.worth for judged in flat]).view(-1, _GROUP)
    left, right = torch.triu_indices(_GROUP, _GROUP, offset=1)
    gap = worths[:, left] - worths[:, right]
    margin = (rewards[:, left] - rewards[:, right]) * gap.sign()
    told = gap.abs() > 1e-6
    preference = -functional.logsigmoid(margin[told]).mean()
    logits = verdict_head(hidden[places[:, 0], places[:, 1]])
    verdict = functional.cross_entropy(logits, verdicts)
    return preference, verdict, (margin[told] > 0).float().mean()


def _tensors(
    tokenizer: PreTrainedTokenizerBase, judged: list[Judged]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the tensors of judged answers: tokens, last places, word places, verdicts.

    Tokens are [n, longest], last places [n], word places [words, 2] (row, place), verdicts [words].
    A word's place is that of the one token after its label; the template is the system's own.
    """
    rows = tokenizer.apply_chat_template(
        [
            [
                {"role": "user", "content": render_prompt(one.request)},
                {"role": "assistant", "content": one.text},
            ]
            for one in judged
        ],
        return_dict=True,
    )["input_ids"]
    labels = {tokenizer(text)["input_ids"][0] for text in _LABELS}
    places, verdicts = [], []
    for row, (ids, one) in enumerate(zip(rows, judged, strict=True)):
        places += [[row, place + 1] for place, token in enumerate(ids) if token in labels]
        for slot, words in zip(one.request.slots, one.answer.lists, strict=True):
            verdicts += [VERDICTS.index(verdict) for verdict in true_verdicts(slot, words)]
    longest = max(map(len, rows))
    tokens = torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids in rows])
    last = torch.tensor([len(ids) - 1 for ids in rows])
    return tokens, last, torch.tensor(places), torch.tensor(verdicts)
