"""Long-form documents of the miniature world: what is written can be read back, part by part."""

import itertools
import random
from collections import Counter

from avr.core.trajectory import TRAJECTORY_TEMPLATES, parse_trajectory, render_trajectory
from avr.miniature.making.thinking import SYSTEM, TEMPLATE, thinking_demonstration
from avr.miniature.prompts import draw_requests
from avr.miniature.world import (
    parse_answer,
    parse_critique,
    render_answer,
    render_critique,
    render_prompt,
)

REQUESTS = list(itertools.islice(draw_requests("valid", random.Random(0)), 300))
DRAWN = [
    (request, thinking_demonstration(request, random.Random(n)))
    for n, request in enumerate(REQUESTS)
]
TRAJECTORIES = [(request, parse_trajectory(turns[-1].text, TEMPLATE)) for request, turns in DRAWN]


def parts_of(trajectory):
    """(answers, critiques), both in the order in which they were written."""
    answers = [trajectory.first, *(turn.refinement for turn in trajectory.turns)]
    return answers, [*(turn.critique for turn in trajectory.turns), trajectory.closing]


def test_document_asks_for_the_form_then_for_the_request_and_teaches_the_output_alone():
    for request, turns in DRAWN:
        assert [turn.role for turn in turns] == ["system", "user", "assistant"]
        assert [turn.learn for turn in turns] == [False, False, True]
        assert [turn.text for turn in turns[:2]] == [SYSTEM, render_prompt(request)]


def test_output_is_the_text_of_its_trajectory():
    for (_, turns), (_, trajectory) in zip(DRAWN, TRAJECTORIES, strict=True):
        assert render_trajectory(trajectory, TEMPLATE) == turns[-1].text


def test_final_answer_is_the_last_refinement_or_the_first_answer():
    for _, trajectory in TRAJECTORIES:
        assert trajectory.answer == parts_of(trajectory)[0][-1]


def test_answers_and_critiques_are_texts_of_the_world_about_one_another():
    for request, trajectory in TRAJECTORIES:
        for answer, critique in zip(*parts_of(trajectory), strict=True):
            read, checked = parse_answer(request, answer), parse_critique(request, critique)
            assert read is not None and checked is not None
            assert checked.lists == read.lists
            assert render_answer(request, read) == answer
            assert render_critique(request, checked) == critique


def test_rounds_vary_from_none_to_three_and_one_is_most_common():
    rounds = Counter(len(trajectory.turns) for _, trajectory in TRAJECTORIES)
    assert set(rounds) == {0, 1, 2, 3}
    assert rounds.most_common(1)[0][0] == 1
    assert min(rounds.values()) > 0.1 * len(TRAJECTORIES)


def test_same_seed_gives_the_same_document_and_another_seed_another():
    for n, (request, turns) in enumerate(DRAWN):
        assert thinking_demonstration(request, random.Random(n)) == turns
    others = [thinking_demonstration(REQUESTS[0], random.Random(n)) for n in range(20)]
    assert len({turns[-1].text for turns in others}) == 20


def test_markers_are_those_of_the_think_template_where_serving_stacks_look():
    think = TRAJECTORY_TEMPLATES["think"].markers
    assert {name: TEMPLATE.markers[name] for name in ("start", "end")} == {
        name: think[name] for name in ("start", "end")
    }
    assert TEMPLATE.markers["start"] == SYSTEM
