"""Judgements of critiques: is each verdict of a critique right?

They give the policy what an instruction-tuned model brings along to Meta-Rewarding: asked to, it
judges a critique in turn. A judgement has the form of a critique: every item again, "good" where
the critique's verdict on it is right and "wrong" where it is not, "none missing", and a rating by
the share of right verdicts. A policy this small learns the form and looks at the answer once more;
it does not learn to hold what it sees against the verdicts, so its ratings of critiques are no
better than chance (the gates measure it). Standard library only; all choices are ours.
"""

from __future__ import annotations

import random
from dataclasses import replace

from avr.miniature.demonstrations import (
    POLICY,
    Turn,
    draw_answer,
    draw_critique,
)
from avr.miniature.oracle import rating_of
from avr.miniature.world import (
    CHECK_REQUEST,
    Critique,
    Request,
    render_answer,
    render_critique,
    render_prompt,
)

#: What asks for a judgement, in words that are whole tokens here; `conf/miniature` states the same.
JUDGE_REQUEST = "Check again each good and each wrong and rate."
#: How a judge looks at the answer: as the policy does, but it sees a fault more often.
_JUDGE = replace(POLICY, miss=0.3)


def judge_critique(critique: Critique, own: Critique) -> Critique:
    """The judgement of a critique by who would have written `own` of the same answer."""
    verdicts = tuple(
        tuple(
            "good" if (said == "good") == (seen == "good") else "wrong"
            for said, seen in zip(row, rows, strict=True)
        )
        for row, rows in zip(critique.verdicts, own.verdicts, strict=True)
    )
    flat = [verdict for row in verdicts for verdict in row]
    rating = rating_of(flat.count("good") / len(flat))
    return Critique(critique.lists, verdicts, tuple(0 for _ in verdicts), rating)


def judging_demonstration(request: Request, rng: random.Random) -> list[Turn]:
    """An answer and a critique of the policy's kind, to be read, and a judgement to be learned."""
    answer = draw_answer(request, POLICY, rng)
    critique = draw_critique(request, answer, POLICY, rng)
    judgement = judge_critique(critique, draw_critique(request, answer, _JUDGE, rng))
    return [
        Turn("user", render_prompt(request)),
        Turn("assistant", render_answer(request, answer)),
        Turn("user", CHECK_REQUEST),
        Turn("assistant", render_critique(request, critique)),
        Turn("user", JUDGE_REQUEST),
        Turn("assistant", render_critique(request, judgement), learn=True),
    ]
