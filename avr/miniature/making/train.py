"""Build the three models from nothing: `python -m avr.miniature.making.train --out DIR`.

Stages, each of which reads what earlier ones left in DIR (`--stage NAME ...` runs a choice):
  base       from random weights, on programmatic faults of many kinds and rates -> work/base
  repeats    the base widened to see words that are there twice, and trained on  -> work/repeats
  policy     work/repeats brought down to policy-level demonstrations             -> policy
  form       the policy trained on, with long-form documents at its own level     -> policy
  answers    answers of the policy, and refinements of them by work/repeats      -> work/answers
  corrector  work/repeats trained on, with those answers as a share of its faults -> corrector
  reward     the body of work/repeats, Bradley-Terry on pairs the oracle ranks    -> reward
  meta       the policy trained on, with meta-judgements                          -> policy
`form` and `meta` write over the policy they read: to repeat one, repeat `policy` before it.
Everything is seeded; on the same machine and library versions the result is the same.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from avr.miniature.making.demonstrations import (
    CORRECTOR,
    Turn,
    converse,
    corrector_demonstration,
    policy_demonstration,
)
from avr.miniature.making.documents import batches
from avr.miniature.making.meta_judging import meta_demonstration
from avr.miniature.making.networks import new_language_model, save
from avr.miniature.making.optimisation import train_language_model
from avr.miniature.making.repeats import protect, see_repeats
from avr.miniature.making.reward_training import train_reward_model
from avr.miniature.making.sampling import sample
from avr.miniature.making.thinking import thinking_demonstration
from avr.miniature.making.tokenizer import build_tokenizer
from avr.miniature.prompts import draw_requests
from avr.miniature.world import (
    CHECK_REQUEST,
    REFINE_REQUEST,
    Answer,
    Request,
    parse_answer,
    parse_prompt,
    render_prompt,
)

STAGES = ("base", "repeats", "policy", "form", "answers", "corrector", "reward", "meta")
#: Share of faults that are repeats and little else, in the stages that learn to see them.
_REPEATS = 0.3
Demonstrate = Callable[[Request, random.Random], list[Turn]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Set the steps and relative step sizes of each stage; one step is `num_tokens` tokens."""

    num_tokens: int = 4096
    base_steps: int = 800
    repeats_steps: int = 300
    policy_steps: int = 160
    form_steps: int = 240
    corrector_steps: int = 800
    reward_steps: int = 600
    meta_steps: int = 160
    num_answers: int = 1600
    seed: int = 20


def main() -> None:
    """Parse the command line and run one stage or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", choices=STAGES, nargs="*", default=STAGES)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for stage in arguments.stage:
        print(f"== {stage}", flush=True)
        _RUN[stage](arguments.out, Plan())


def train_base(out: Path, plan: Plan) -> None:
    """Train a corrector from random weights."""
    tokenizer = build_tokenizer()
    model = new_language_model(tokenizer, plan.seed)
    _train(model, tokenizer, corrector_demonstration, plan.base_steps, 1.0, plan, out / "work/base",
           decay=False)  # fmt: skip


def train_repeats(out: Path, plan: Plan) -> None:
    """Give the base a head for repeated words, and train it to use this head."""
    base, tokenizer = load_language_model(out / "work/base")
    torch.manual_seed(plan.seed + 2)
    model = see_repeats(base, tokenizer)

    def demonstrate(request: Request, rng: random.Random) -> list[Turn]:
        return corrector_demonstration(request, rng, _REPEATS)

    protect(model)
    _train(model, tokenizer, demonstrate, plan.repeats_steps, 0.8, plan, out / "work/repeats",
           decay=False)  # fmt: skip


def train_policy(out: Path, plan: Plan) -> None:
    """Bring the corrector-to-be down to policy level; it keeps a latent skill of checking."""
    model, tokenizer = load_language_model(out / "work/repeats")
    protect(model)
    _train(model, tokenizer, policy_demonstration, plan.policy_steps, 0.8, plan, out / "policy")


def train_form(out: Path, plan: Plan) -> None:
    """Train the policy on, to write a whole loop in one turn when a system turn asks.

    It stays as it is otherwise.
    """
    model, tokenizer = load_language_model(out / "policy")
    protect(model)

    def demonstrate(request: Request, rng: random.Random) -> list[Turn]:
        kind = rng.choice((policy_demonstration, thinking_demonstration))
        return kind(request, rng)

    _train(model, tokenizer, demonstrate, plan.form_steps, 0.8, plan, out / "policy")


def sample_answers(out: Path, plan: Plan) -> None:
    """Sample policy answers and refinements of them, as {"prompt", "answer"} lines."""
    refiner, tokenizer = load_language_model(out / "work/repeats")
    policy, _ = load_language_model(out / "policy")
    requests = draw_requests("train", random.Random(plan.seed + 1))
    prompts = [render_prompt(next(requests)) for _ in range(plan.num_answers)]
    asked = [[{"role": "user", "content": prompt}] for prompt in prompts]
    half = plan.num_answers // 2
    answers = sample(policy, tokenizer, asked[:half], seed=1)
    answers += sample(policy, tokenizer, asked[half:], temperature=1.0, top_p=1.0, seed=2)
    refined = _refine(refiner, tokenizer, prompts, answers)
    with (out / "work/answers.jsonl").open("w", encoding="utf-8") as file:
        for texts in (answers, refined):
            for prompt, answer in zip(prompts, texts, strict=True):
                file.write(json.dumps({"prompt": prompt, "answer": answer}) + "\n")


def train_corrector(out: Path, plan: Plan) -> None:
    """Train on programmatic faults, and as often on faults of sampled answers."""
    model, tokenizer = load_language_model(out / "work/repeats")
    protect(model)
    answers = _parsed_answers(out / "work/answers.jsonl")

    def demonstrate(request: Request, rng: random.Random) -> list[Turn]:
        if rng.random() < 0.5:
            return corrector_demonstration(request, rng, _REPEATS)
        own, answer = rng.choice(answers)
        return converse(own, answer, CORRECTOR, rng, learn_answer=False)

    _train(model, tokenizer, demonstrate, plan.corrector_steps, 0.8, plan, out / "corrector")


def train_reward(out: Path, plan: Plan) -> None:
    """Train Bradley-Terry on a body that knows which words belong where, and which repeat."""
    base, tokenizer = load_language_model(out / "work/repeats")
    model = train_reward_model(base, tokenizer, plan.reward_steps, plan.seed + 5)
    save(model, tokenizer, out / "reward")


def train_meta(out: Path, plan: Plan) -> None:
    """Train the policy on, to judge a critique when asked; it stays as it is otherwise."""
    model, tokenizer = load_language_model(out / "policy")
    protect(model)
    kinds = (policy_demonstration, thinking_demonstration, meta_demonstration)

    def demonstrate(request: Request, rng: random.Random) -> list[Turn]:
        return rng.choice(kinds)(request, rng)

    _train(model, tokenizer, demonstrate, plan.meta_steps, 0.8, plan, out / "policy")


def load_language_model(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """Load a model in float32 and its tokenizer."""
    model = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model, AutoTokenizer.from_pretrained(folder)


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    demonstrate: Demonstrate,
    num_steps: int,
    rate: float,
    plan: Plan,
    folder: Path,
    *,
    decay: bool = True,
) -> None:
    """Train on an endless stream of demonstrations and save, also every few hundred steps."""
    rng = random.Random(f"{plan.seed} {folder.name}")
    requests = draw_requests("train", rng)

    def stream() -> Iterator[list[Turn]]:
        while True:
            yield demonstrate(next(requests), rng)

    data = batches(tokenizer, stream(), plan.num_tokens, rng)
    train_language_model(
        model,
        data,
        num_steps,
        rate,
        decay=decay,
        snapshot=lambda: save(model, tokenizer, folder),
    )
    save(model, tokenizer, folder)


def _refine(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    answers: list[str],
) -> list[str]:
    """Sample one critique and one refinement of each answer; return the refinements."""
    talks = [
        [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": answer},
            {"role": "user", "content": CHECK_REQUEST},
        ]
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    for talk, critique in zip(talks, sample(model, tokenizer, talks, seed=3), strict=True):
        talk.append({"role": "assistant", "content": critique})
        talk.append({"role": "user", "content": REFINE_REQUEST})
    refined: list[str] = sample(model, tokenizer, talks, seed=4)
    return refined


def _parsed_answers(path: Path) -> list[tuple[Request, Answer]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    requests = [parse_prompt(row["prompt"]) for row in rows]
    pairs = [
        (request, parse_answer(request, row["answer"]))
        for request, row in zip(requests, rows, strict=True)
        if request
    ]
    return [(request, answer) for request, answer in pairs if answer]


_RUN: dict[str, Callable[[Path, Plan], None]] = {
    "base": train_base,
    "repeats": train_repeats,
    "policy": train_policy,
    "form": train_form,
    "answers": sample_answers,
    "corrector": train_corrector,
    "reward": train_reward,
    "meta": train_meta,
}

if __name__ == "__main__":
    main()
