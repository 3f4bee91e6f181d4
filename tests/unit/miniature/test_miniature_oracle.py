"""The oracle, against cases worked out by hand."""

import pytest

from avr.miniature.oracle import quality, rating_of, true_critique, true_verdicts
from avr.miniature.world import Answer, Request, Slot

PROMPT = "List (a) three fruits and (b) two tools."


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Fruits: a1 apple, a2 plum, a3 pear. Tools: b1 saw, b2 drill.", 1.0),
        # one wrong of five
        ("Fruits: a1 apple, a2 saw, a3 pear. Tools: b1 saw, b2 drill.", 4 / 5),
        # a repeat earns nothing
        ("Fruits: a1 apple, a2 apple, a3 pear. Tools: b1 saw, b2 drill.", 4 / 5),
        # one missing: the denominator stays the request
        ("Fruits: a1 apple, a2 plum. Tools: b1 saw, b2 drill.", 4 / 5),
        # one too many: the denominator grows
        ("Fruits: a1 apple, a2 plum, a3 pear, a4 mango. Tools: b1 saw, b2 drill.", 5 / 6),
        # an extra word makes up for a wrong one, at the price of length
        ("Fruits: a1 apple, a2 saw, a3 pear, a4 mango. Tools: b1 saw, b2 drill.", 5 / 6),
        # filler counts neither way
        ("Fruits: a1 apple, a2 plum, a3 pear. Tools: b1 saw, b2 drill. I hope this helps.", 1.0),
        # words of no category
        ("Fruits: a1 zzz. Tools: b1 qqq.", 0.0),
        ("apple, plum, pear, saw, drill", 0.0),
        ("", 0.0),
    ],
)
def test_quality_by_hand(answer: str, expected: float) -> None:
    assert quality(PROMPT, answer) == pytest.approx(expected)


def test_quality_foreign_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="not a prompt"):
        quality("What is love?", "Fruits: a1 apple.")


def test_true_verdicts_extra_comes_before_wrong_before_repeated() -> None:
    words = ("apple", "saw", "apple", "saw", "plum")
    assert true_verdicts(Slot(4, "fruits"), words) == (
        "good", "wrong", "repeated", "wrong", "extra",
    )  # fmt: skip


def test_true_critique_counts_missing_and_rates_by_quality() -> None:
    request = Request((Slot(3, "fruits"), Slot(2, "tools")))
    critique = true_critique(request, Answer((("apple",), ("saw", "axe", "rake"))))
    assert critique.missing == (2, 0)
    assert critique.verdicts[1] == ("good", "good", "extra")
    assert critique.rating == 5  # (1 + 2) / (3 + 3)


@pytest.mark.parametrize(("value", "rating"), [(0, 1), (0.04, 1), (0.45, 5), (0.44, 4), (1, 10)])
def test_rating_of(value: float, rating: int) -> None:
    assert rating_of(value) == rating
