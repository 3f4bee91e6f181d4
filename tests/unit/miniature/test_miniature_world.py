"""The texts of the miniature world: what is written can be read back, and nothing else can."""

import pytest

from avr.miniature.vocabulary import CATEGORIES, CATEGORY_OF, FILLERS, OPENINGS
from avr.miniature.world import (
    Answer,
    Critique,
    Request,
    Slot,
    parse_answer,
    parse_critique,
    parse_prompt,
    render_answer,
    render_critique,
    render_prompt,
)

REQUEST = Request((Slot(3, "fruits"), Slot(2, "tools")))


def test_vocabulary_word_belongs_to_one_category_only() -> None:
    words = [word for members in CATEGORIES.values() for word in members]
    assert len(words) == len(set(words)) == len(CATEGORY_OF) == 330
    assert not set(words) & set(CATEGORIES)


def test_render_prompt_two_slots_reads_as_written_here() -> None:
    assert render_prompt(REQUEST) == "List (a) three fruits and (b) two tools."


@pytest.mark.parametrize("opening", range(len(OPENINGS)))
def test_parse_prompt_inverts_render_prompt(opening: int) -> None:
    slots = (Slot(4, "birds"), Slot(2, "gems"), Slot(3, "rooms"))
    for request in (Request(slots, opening), Request(slots[:2], opening)):
        assert parse_prompt(render_prompt(request)) == request


@pytest.mark.parametrize(
    "text",
    [
        "",
        "List (a) three fruits.",
        "List (a) three fruits and (b) two gadgets.",
        "List (a) three fruits and (a) two tools.",
        "List (a) three fruits and (b) two tools. Hurry.",
    ],
)
def test_parse_prompt_foreign_text_is_none(text: str) -> None:
    assert parse_prompt(text) is None


@pytest.mark.parametrize("filler", ["", FILLERS[0], f"{FILLERS[1]} {FILLERS[2]}"])
def test_parse_answer_inverts_render_answer(filler: str) -> None:
    answer = Answer((("apple", "saw", "apple"), ("drill",)), filler)
    text = render_answer(REQUEST, answer)
    assert text.startswith("Fruits: a1 apple, a2 saw, a3 apple. Tools: b1 drill.")
    assert parse_answer(REQUEST, text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Fruits: a1 apple, a2 plum.",
        "Tools: b1 saw. Fruits: a1 apple.",
        "Fruits: a1 apple, a3 plum. Tools: b1 saw.",
        "Fruits: a1 apple, plum. Tools: b1 saw.",
        "Fruits: . Tools: b1 saw.",
        "Fruits: a1 apple. Tools: b1 saw. Birds: c1 owl.",
        "Fruits: a1 apple. Tools: b1 saw. I hope",
        "Fruits: a1 apple, a2 a, a3 a, a4 a, a5 a, a6 a, a7 a. Tools: b1 saw.",
    ],
)
def test_parse_answer_departing_from_the_form_is_none(text: str) -> None:
    assert parse_answer(REQUEST, text) is None


def test_parse_critique_inverts_render_critique() -> None:
    critique = Critique(
        (("apple", "saw"), ("drill", "axe", "rake")),
        (("good", "wrong"), ("good", "repeated", "extra")),
        (1, 0),
        5,
    )
    text = render_critique(REQUEST, critique)
    assert text == (
        "Fruits: a1 apple good, a2 saw wrong, one missing. "
        "Tools: b1 drill good, b2 axe repeated, b3 rake extra, none missing. Rating: [[5]]"
    )
    assert parse_critique(REQUEST, text) == critique


@pytest.mark.parametrize(
    ("old", "new"),
    [("[[5]]", "[[0]]"), ("[[5]]", "[[11]]"), (" good", " fine"), ("a2", "a3"), ("one", "five")],
)
def test_parse_critique_departing_from_the_form_is_none(old: str, new: str) -> None:
    critique = Critique((("apple", "saw"), ("axe",)), (("good", "wrong"), ("good",)), (1, 1), 5)
    text = render_critique(REQUEST, critique)
    assert parse_critique(REQUEST, text.replace(old, new)) is None


def test_request_key_ignores_order_and_wording() -> None:
    turned = Request(REQUEST.slots[::-1], opening=3)
    assert turned.key == REQUEST.key
    assert Request((Slot(2, "fruits"), Slot(2, "tools"))).key != REQUEST.key
