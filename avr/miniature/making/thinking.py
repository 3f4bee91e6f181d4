"""Make long-form documents: the whole loop inside one turn, at the policy's own level.

They give the policy abilities that an instruction-tuned model brings along. It can write in this
form when a system turn asks for it; it checks no better than before, and stops at random. Stage II
has to teach it what to write, when to go on and when to stop. Standard library only; all choices
are ours.
"""

from __future__ import annotations

import random

from avr.core.trajectory import Trajectory, TrajectoryTemplate, render_trajectory
from avr.core.trajectory import Turn as Step
from avr.miniature.making.demonstrations import (
    POLICY,
    Turn,
    draw_answer,
    draw_critique,
    draw_refinement,
)
from avr.miniature.world import (
    CHECK_REQUEST,
    REFINE_REQUEST,
    Request,
    render_answer,
    render_critique,
    render_prompt,
)

#: The `think` form in words that are whole tokens here; `conf/miniature` states the same.
TEMPLATE = TrajectoryTemplate(
    start="<think>\n\n",
    critique=f"\n\n{CHECK_REQUEST}\n\n",
    refinement=f"\n\n{REFINE_REQUEST}\n\n",
    end="\n\n</think>\n\n",
)
#: The text of the system turn that asks for the form.
SYSTEM = "<think>"


def thinking_demonstration(request: Request, rng: random.Random) -> list[Turn]:
    """Demonstrate the form: an answer, up to three rounds, a closing check, the answer again.

    A round is checking and refining; there may be none.
    """
    answer = first = draw_answer(request, POLICY, rng)
    steps = []
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        critique = draw_critique(request, answer, POLICY, rng)
        answer = draw_refinement(request, critique, POLICY, rng)
        steps.append(Step(render_critique(request, critique), render_answer(request, answer)))
    trajectory = Trajectory(
        first=render_answer(request, first),
        turns=tuple(steps),
        closing=render_critique(request, draw_critique(request, answer, POLICY, rng)),
        answer=render_answer(request, answer),
    )
    return [
        Turn("system", SYSTEM),
        Turn("user", render_prompt(request)),
        Turn("assistant", render_trajectory(trajectory, TEMPLATE), learn=True),
    ]
