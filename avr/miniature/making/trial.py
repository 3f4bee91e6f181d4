"""Try three models on prompts: what they write, and which rewards they give."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from avr.miniature.making import sampling
from avr.miniature.making.demonstrations import Profile, draw_answer, draw_fault
from avr.miniature.making.meta_judging import META_REQUEST
from avr.miniature.oracle import quality
from avr.miniature.world import (
    CHECK_REQUEST,
    REFINE_REQUEST,
    parse_prompt,
    render_answer,
)

TEMPERATURE, TOP_P = 0.7, 0.9


@dataclass(frozen=True, slots=True)
class Refined:
    """Hold one model's critiques and refinements of given answers, as texts in prompt order."""

    critiques: list[str]
    refinements: list[str]


class Bench:
    """Hold the three models of a folder, and the prompts they are tried on."""

    def __init__(self, models: Path, prompts: list[str]) -> None:
        self.prompts = prompts
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(models / "policy")
        self._writers = {
            role: AutoModelForCausalLM.from_pretrained(models / role, dtype=torch.float32)
            for role in ("policy", "corrector")
        }
        self._reward = AutoModelForSequenceClassification.from_pretrained(
            models / "reward", dtype=torch.float32
        )

    def answer(self, role: str, seed: int) -> list[str]:
        """Sample one answer per prompt by "policy" or "corrector"."""
        return self._sample(role, [[_message("user", prompt)] for prompt in self.prompts], seed)

    def check(self, role: str, answers: list[str], seed: int) -> list[str]:
        """Sample one critique per answer."""
        return self._sample(role, self._checks(answers), seed)

    def meta_judge(self, answers: list[str], critiques: list[str], seed: int) -> list[str]:
        """Sample one meta-judgement by the policy per critique of an answer."""
        talks = self._checks(answers)
        for talk, critique in zip(talks, critiques, strict=True):
            talk += [_message("assistant", critique), _message("user", META_REQUEST)]
        return self._sample("policy", talks, seed)

    def refine(self, role: str, answers: list[str], seed: int) -> Refined:
        """Sample one critique and one refinement per answer."""
        critiques = self.check(role, answers, seed)
        talks = self._checks(answers)
        for talk, critique in zip(talks, critiques, strict=True):
            talk += [_message("assistant", critique), _message("user", REFINE_REQUEST)]
        return Refined(critiques, self._sample(role, talks, seed + 1))

    def rewards(self, answers: list[str]) -> list[float]:
        """Return the reward of each answer to its prompt."""
        talks = self._exchanges(answers)
        found: list[float] = sampling.rewards(self._reward, self.tokenizer, talks)
        return found

    def quality(self, answers: list[str]) -> float:
        """Return the mean oracle quality, in [0, 1]."""
        return statistics.mean(map(quality, self.prompts, answers))

    def _exchanges(self, answers: list[str]) -> list[sampling.Conversation]:
        return [
            [_message("user", prompt), _message("assistant", answer)]
            for prompt, answer in zip(self.prompts, answers, strict=True)
        ]

    def _checks(self, answers: list[str]) -> list[sampling.Conversation]:
        return [[*talk, _message("user", CHECK_REQUEST)] for talk in self._exchanges(answers)]

    def _sample(self, role: str, talks: list[sampling.Conversation], seed: int) -> list[str]:
        texts: list[str] = sampling.sample(
            self._writers[role],
            self.tokenizer,
            talks,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            seed=seed,
        )
        return texts


def one_fault(prompts: list[str], kind: str) -> tuple[list[str], list[str], list[tuple[int, int]]]:
    """Make for each prompt a faultless answer, and the same with one fault; return the places, too.

    A place is (list, place in the list).
    """
    rng = random.Random(kind)
    right, faulty, places = [], [], []
    for prompt in prompts:
        request = parse_prompt(prompt)
        assert request is not None
        answer = draw_answer(request, Profile(), rng)
        spoilt, place = draw_fault(request, answer, kind, rng)
        right.append(render_answer(request, answer))
        faulty.append(render_answer(request, spoilt))
        places.append(place)
    return right, faulty, places


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
