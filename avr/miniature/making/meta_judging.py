"""Make meta-judgements: is each verdict of a critique right?

They give the policy an ability that an instruction-tuned model brings along to Meta-Rewarding: it
judges a critique in turn when asked to. A meta-judgement has the form of a critique. It has every
item again: "good" where the critique is right to call it good or to flag it, and "wrong" where it
is not; then "none missing", and a rating by the share of right verdicts. Which fault the critique
names counts for nothing, nor does its count of missing words.

The shipped policy learned to end with a rating, and in two of three cases the form. It did not
learn to hold its view of the answer against the verdicts, and its ratings of critiques are no
better than chance (the gates measure all three). Standard library only; all choices are ours.
"""

from __future__ import annotations

import random
from dataclasses import replace

from avr.miniature.making.demonstrations import POLICY, Turn, draw_answer, draw_critique
from avr.miniature.oracle import rating_of, true_critique
from avr.miniature.world import (
    CHECK_REQUEST,
    Critique,
    Request,
    parse_critique,
    parse_prompt,
    render_answer,
    render_critique,
    render_prompt,
)

#: The request for a meta-judgement, in words that are whole tokens here; `conf/miniature` states
#: the same.
META_REQUEST = "Check again each good and each wrong and rate."
#: A judge looks at the answer as the policy does, but sees a fault more often.
_JUDGE = replace(POLICY, miss=0.3)


def meta_judgement(critique: Critique, own: Critique) -> Critique:
    """Judge a critique as the author of `own`, a critique of the same answer, would."""
    verdicts = tuple(
        tuple(
            "good" if (one == "good") == (other == "good") else "wrong"
            for one, other in zip(said, seen, strict=True)
        )
        for said, seen in zip(critique.verdicts, own.verdicts, strict=True)
    )
    return _rated(critique.lists, verdicts)


def is_meta_judgement(request: Request, critique: str, text: str) -> bool:
    """Say whether a text has the form of a meta-judgement of a critique.

    It has the critique's items, a mark on each, and a rating within one of the rating by these
    marks: the policy rates by what it has seen, not by counting.
    """
    read, judged = parse_critique(request, critique), parse_critique(request, text)
    if read is None or judged is None or judged.lists != read.lists or any(judged.missing):
        return False
    if not {verdict for row in judged.verdicts for verdict in row} <= {"good", "wrong"}:
        return False
    return abs(judged.rating - _rated(judged.lists, judged.verdicts).rating) <= 1


def meta_demonstration(request: Request, rng: random.Random) -> list[Turn]:
    """Demonstrate a meta-judgement of an answer and a critique of the policy's kind.

    Only the meta-judgement is to be learned.
    """
    answer = draw_answer(request, POLICY, rng)
    critique = draw_critique(request, answer, POLICY, rng)
    judged = meta_judgement(critique, draw_critique(request, answer, _JUDGE, rng))
    return [
        Turn("user", render_prompt(request)),
        Turn("assistant", render_answer(request, answer)),
        Turn("user", CHECK_REQUEST),
        Turn("assistant", render_critique(request, critique)),
        Turn("user", META_REQUEST),
        Turn("assistant", render_critique(request, judged), learn=True),
    ]


def two_critiques(prompts: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Make for each prompt an answer of the policy's kind, its true critique, and an untrue one.

    The critiques differ in what they flag, so that a meta-judgement can tell them apart.
    """
    rng = random.Random("critiques")
    answers, true, faulty = [], [], []
    for prompt in prompts:
        request = parse_prompt(prompt)
        assert request is not None
        answer = draw_answer(request, POLICY, rng)
        truth = other = true_critique(request, answer)
        while meta_judgement(other, truth).rating == 10:
            other = draw_critique(request, answer, POLICY, rng)
        answers.append(render_answer(request, answer))
        true.append(render_critique(request, truth))
        faulty.append(render_critique(request, other))
    return answers, true, faulty


def _rated(lists: tuple[tuple[str, ...], ...], verdicts: tuple[tuple[str, ...], ...]) -> Critique:
    marks = [verdict for row in verdicts for verdict in row]
    rating = rating_of(marks.count("good") / len(marks))
    return Critique(lists, verdicts, tuple(0 for _ in lists), rating)
