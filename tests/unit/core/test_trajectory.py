"""Trajectories as text: rendering and parsing are each other's inverse for the ugliest parts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avr.core.trajectory import (
    PLAIN,
    TRAJECTORY_TEMPLATES,
    Trajectory,
    TrajectoryError,
    TrajectoryTemplate,
    Turn,
    parse_trajectory,
    render_trajectory,
)

THINK = TRAJECTORY_TEMPLATES["think"]
LOOP = Trajectory("draft", (Turn("too short", "longer"), Turn("flat", "vivid")), "fine", "vivid")
WHITE = st.text(" \n\t\r\x0b\x1c\x85\u2028", max_size=3)


def with_white_space(markers, spaces):
    """A template of these markers; None where they could not be told apart."""
    separators = (f"{spaces[2 * n]}{m}{spaces[2 * n + 1]}" for n, m in enumerate(markers))
    try:
        return TrajectoryTemplate(*separators)
    except ValueError:
        return None


# A first character may stand inside markers, too: few characters make overlaps and halves likely.
MARKERS = st.builds(
    str.__add__, st.sampled_from("<[§#a"), st.text("ab#</ \n*.+)$|?é", min_size=1, max_size=5)
).map(str.strip)
CUSTOM_TEMPLATES = st.builds(
    with_white_space,
    st.lists(MARKERS, min_size=4, max_size=4, unique=True),
    st.lists(WHITE, min_size=8, max_size=8),
).filter(bool)
TEMPLATES = st.sampled_from(list(TRAJECTORY_TEMPLATES.values())) | CUSTOM_TEMPLATES


def texts(template):
    """Texts that quote, halve and escape the markers of the template."""
    pieces = ["", "\\", "\\\\\\", "\n", "\n\n", " ", "\r\n", "\u2028", "\x85", "\x00", "word"]
    pieces += [template.start, template.critique, template.refinement, template.end]
    for marker in template.markers.values():
        half = max(1, len(marker) // 2)
        pieces += [marker, "\\" + marker, marker[:half], marker[half:], marker[:-1], marker[1:]]
        pieces += [marker[0] + "\\" * n + marker[1:] for n in (1, 2, 5)]
    piece = st.sampled_from(pieces) | st.text(max_size=3)
    return st.lists(piece, max_size=6).map("".join)


@st.composite
def cases(draw):
    template = draw(TEMPLATES)
    part = texts(template)
    turns = st.lists(st.builds(Turn, part, part), max_size=3).map(tuple)
    return draw(st.builds(Trajectory, part, turns, st.none() | part, part)), template


def counts_in(text, template):
    return {name: text.count(marker) for name, marker in template.markers.items()}


def test_rendered_text_is_the_loop_in_order():
    assert render_trajectory(LOOP, THINK) == (
        "<think>\ndraft"
        "\n<critique>\ntoo short\n<refinement>\nlonger"
        "\n<critique>\nflat\n<refinement>\nvivid"
        "\n<critique>\nfine"
        "\n</think>\n\nvivid"
    )
    assert render_trajectory(Trajectory("draft", (), None, "draft"), THINK) == (
        "<think>\ndraft\n</think>\n\ndraft"
    )


RELEASED_TEXT = """\
<|Start of recursive criticism and improvement|>

## Let's answer the question first:
draft

## Now, let's try to criticize this answer:
too short
Rating: [[3]]

## Okey, let's improve the above answer based on the criticism:
longer
## and clearer

## Now, let's try to criticize this answer:
It has "Final answer:" in it.

## Okay, now it\u2019s almost done.

<|End of recursive criticism and improvement|>

Final answer:

longer
## and clearer"""


def test_the_released_form_is_that_of_the_released_data():
    released = TRAJECTORY_TEMPLATES["released"]
    better = "longer\n## and clearer"
    closing = 'It has "Final answer:" in it.'
    loop = Trajectory("draft", (Turn("too short\nRating: [[3]]", better),), closing, better)
    assert parse_trajectory(RELEASED_TEXT, released) == loop
    assert render_trajectory(loop, released) == RELEASED_TEXT


@settings(max_examples=200, deadline=None)
@given(cases())
def test_parsing_is_the_inverse_of_rendering(case):
    trajectory, template = case
    assert parse_trajectory(render_trajectory(trajectory, template), template) == trajectory


@pytest.mark.parametrize("template", TRAJECTORY_TEMPLATES.values(), ids=TRAJECTORY_TEMPLATES)
@pytest.mark.parametrize(
    "part",
    [
        "",
        "\n",
        "\n\n a \n\n",
        "\\",
        "<",
        "</think>",
        "\\</think>",
        "<\\/think>",
        "<\\\\\\\\/think>\\",
        "<think>\n\n</think>\n\n<critique>\n<refinement>",
        "<think<think>>",
        "## Now, let's\n\n## Now, let's try to criticize this answer:",
        "#\\## Okay, now it\u2019s almost done.\n\n<|End of recursive criticism and improvement|>",
        "\u2028<|Start of recursive criticism and improvement|>\n\n#\x85\u2029\x0c",
    ],
)
def test_every_part_may_hold_any_text(part, template):
    quoting = Trajectory(part, (Turn(part, part), Turn(part, part)), part, part)
    assert parse_trajectory(render_trajectory(quoting, template), template) == quoting


@settings(max_examples=100, deadline=None)
@given(cases())
def test_each_real_marker_stands_in_the_text_as_often_as_the_loop_has_it(case):
    trajectory, template = case
    closing = trajectory.closing is not None
    turns = len(trajectory.turns)
    counts = counts_in(render_trajectory(trajectory, template), template)
    assert counts == {"start": 1, "critique": turns + closing, "refinement": turns, "end": 1}


@settings(max_examples=100, deadline=None)
@given(TEMPLATES.flatmap(lambda template: st.tuples(texts(template), st.just(template))))
def test_escaped_part_holds_no_marker_and_comes_back(case):
    part, template = case
    escaped = template.escape(part)
    assert not any(counts_in(escaped, template).values())
    assert template.unescape(escaped) == part
    if not any(marker[1:] in part for marker in template.markers.values()):
        assert escaped == part


def test_escape_is_one_backslash_behind_the_first_character():
    assert THINK.escape("say </think> or <think>") == "say <\\/think> or <\\think>"
    assert THINK.escape("<\\/think>") == "<\\\\/think>"
    assert THINK.escape("a < b, </thinking, \\n, <\\b>") == "a < b, </thinking, \\n, <\\b>"
    assert THINK.unescape("a <\\b> \\ <\\\\/think>") == "a <\\b> \\ <\\/think>"


@settings(max_examples=60, deadline=None)
@given(cases().map(lambda case: case[0]))
def test_reasoning_parser_gets_exactly_the_final_answer(trajectory):
    rendered = render_trajectory(trajectory, THINK)
    reasoning, found, content = rendered.partition("</think>")
    assert found
    assert content == "\n\n" + THINK.escape(trajectory.answer)
    assert reasoning.startswith("<think>\n" + THINK.escape(trajectory.first))


def test_white_space_around_markers_may_be_missing():
    text = " \n<think>draft<critique>too short<refinement>longer</think>longer"
    assert parse_trajectory(text, THINK) == Trajectory(
        "draft", (Turn("too short", "longer"),), None, "longer"
    )


def test_empty_closing_critique_differs_from_none():
    closed = Trajectory("", (), "", "")
    assert parse_trajectory("<think>\n\n<critique>\n\n</think>\n\n", THINK) == closed
    assert parse_trajectory("<think>\n\n</think>\n\n", THINK).closing is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not begin with the start marker"),
        ("only an answer", "does not begin with the start marker"),
        ("draft\n</think>\n\nanswer", "does not begin with the start marker"),
        ("Well: <think>\ndraft\n</think>\n\nanswer", "does not begin with the start marker"),
        ("x<think>\ndraft\n</think>\n\nanswer", "does not begin with the start marker"),
        ("<\\think>\ndraft\n</think>\n\nanswer", "does not begin with the start marker"),
        ("<think>\ndraft", "has no end marker"),
        ("<think>\ndraft\n<critique>\nbad\n<refinement>\nbet", "has no end marker"),
        ("<think>\ndraft<\\/think>\n\nanswer", "has no end marker"),
        ("<think>a<refinement>b</think>c", "wrong order: start, refinement, end$"),
        ("<think>a<critique>b<critique>c</think>d", "order: start, critique, critique, end$"),
        ("<think>a<think>b</think>c", "wrong order: start, start, end$"),
        ("<think>a</think>b</think>c", "wrong order: start, end, end$"),
        ("<think>a</think>b<critique>c", "wrong order: start, end, critique$"),
        ("<think>a</think>b<think>c</think>d", "wrong order: start, end, start, end$"),
    ],
)
def test_texts_of_another_form_are_refused(text, words):
    with pytest.raises(TrajectoryError, match=words):
        parse_trajectory(text, THINK)


def test_message_of_a_long_wrong_text_is_short():
    with pytest.raises(TrajectoryError) as caught:
        parse_trajectory("<think>" * 1000 + "</think>", THINK)
    assert len(str(caught.value)) < 300


@settings(max_examples=100, deadline=None)
@given(
    TEMPLATES.flatmap(
        lambda t: st.tuples(st.sampled_from(["", t.start, t.end]), texts(t), st.just(t))
    )
)
def test_any_text_parses_or_raises_trajectory_error(case):
    beginning, rest, template = case
    try:
        trajectory = parse_trajectory(beginning + rest, template)
    except TrajectoryError:
        return
    assert parse_trajectory(render_trajectory(trajectory, template), template) == trajectory


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from(["start", "critique", "refinement", "end"]))
def test_a_real_marker_in_the_answer_is_refused(case, name):
    trajectory, template = case
    with pytest.raises(TrajectoryError, match=f"wrong order: start, .*{name}"):
        parse_trajectory(render_trajectory(trajectory, template) + template.markers[name], template)


@pytest.mark.parametrize(
    ("separators", "words"),
    [
        ({"start": " \n"}, "the start marker '' is too short"),
        ({"refinement": ""}, "the refinement marker '' is too short"),
        ({"start": "§"}, "the start marker '§' is too short"),  # no escape could hide it
        ({"end": "<\\end>"}, "the end marker .* holds a backslash"),
        ({"critique": "</th"}, "the critique marker '</th' stands inside '</think>'"),
        ({"end": "\n<critique>"}, "marker '<critique>' stands inside '<critique>'"),
        ({"critique": "{<think>}"}, "the start marker '<think>' stands inside '{<think>}'"),
        ({"critique": "<c><"}, "the critique marker '<c><' ends as '<think>' begins, with '<'"),
        ({"critique": "ank>", "end": "<th"}, "the end marker '<th' stands inside '<think>'"),
        ({"start": "a b", "end": "b\nc"}, "the start marker 'a b' ends as 'b.*' begins, with 'b'"),
        ({"end": "##"}, "the end marker '##' ends as '##' begins, with '#'"),
        ({"end": "abcab"}, "the end marker 'abcab' ends as 'abcab' begins, with 'ab'"),
    ],
)
def test_markers_that_cannot_be_told_apart_are_refused(separators, words):
    with pytest.raises(ValueError, match=f"trajectory template: .*{words}"):
        TrajectoryTemplate(**separators)


def test_two_equal_markers_are_refused_without_white_space_too():
    same = "<turn>"
    with pytest.raises(ValueError, match="the critique marker '<turn>'"):
        TrajectoryTemplate(critique=same, refinement=same)


@given(st.text())
def test_a_plain_text_is_its_own_answer_and_holds_no_trajectory(text):
    assert parse_trajectory(text, PLAIN) == Trajectory(text, (), None, text)
    with pytest.raises(ValueError, match="no trajectory"):
        render_trajectory(Trajectory(text, (), None, text), PLAIN)
