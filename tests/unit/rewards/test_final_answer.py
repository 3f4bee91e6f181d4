"""The part of a text that holds its final answer, in the forms that models and data sets write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avr.rewards.final_answer import expected_answer, final_answer, holds_number

FORMS = [
    # GSM8K, as its rows and models that were trained on them write it.
    ("He buys 3*4=<<3*4=12>>12 eggs.\n#### 12", "12"),
    ("So 1,000 + 200.\n#### 1,200", "1,200"),
    ("#### $18.50", "18.50"),
    ("#### -7", "-7"),
    ("#### 18\n\nAsk me if you have 2 more questions.", "18"),
    ("####18", "18"),
    # Marked, with or without emphasis, currency, a unit, a full stop.
    ("Answer: 5 apples", "5 apples"),
    ("Answer: 18", "18"),
    ("Answer:18", "18"),
    ("Answer = 18", "18"),
    ("**Answer:** $18", "18"),
    ("**Answer: 18**", "18"),
    ("**Answer**: 18", "18"),
    ("**Final Answer:** 18.", "18."),
    ("Final answer: 18", "18"),
    ("ANSWER: 18", "18"),
    ("The answer is 18.", "18."),
    ("The answer is: 18", "18"),
    ("The final answer is $18$.", "$18$."),
    ("So the answer is **18** dollars.", "18 dollars."),
    ("Therefore, the answer is 1,200.", "1,200."),
    ("The answer is 25%.", "25%."),
    ("The answer is 3/4 of a mile.", "3/4 of a mile."),
    ("Answer: 0.5", "0.5"),
    ("Answer: 18 \u20ac", "18 \u20ac"),
    ("Answer: x = 4", "x = 4"),
    ("Answer:\n18", "18"),
    ("### Final Answer\n\n**18**", "18"),
    ("## Answer\nShe has 18 apples.", "She has 18 apples."),
    ("<answer>18</answer>", "<answer>18</answer>"),
    ("Answer: 5\nNo, I was wrong.\nAnswer: 6", "6"),
    ("The answer is not clear yet.\n3 + 4 = 7", "3 + 4 = 7"),
    # In a box, whatever stands around it.
    ("\\boxed{18}", "$18$"),
    ("$\\boxed{18}$", "$18$"),
    ("The answer is $\\boxed{18}$. Check: 9 * 2 = 18.", "$18$"),
    ("\\boxed{\\frac{1}{2}}", "$\\frac{1}{2}$"),
    ("\\boxed{ \\frac{\\sqrt{3}}{2^{10}} }", "$\\frac{\\sqrt{3}}{2^{10}}$"),
    ("\\boxed{(3, \\frac{\\pi}{2})}", "$(3, \\frac{\\pi}{2})$"),
    ("\\boxed{18\\text{ apples}}", "$18\\text{ apples}$"),
    ("\\boxed{\\{1, 2\\}}", "$\\{1, 2\\}$"),
    ("\\boxed{-5}", "$-5$"),
    ("\\boxed{25\\%}", "$25\\%$"),
    ("\\boxed{1,200}", "$1,200$"),
    ("\\boxed{\n18\n}", "$18$"),
    ("\\boxed{x} with no digit", "$x$"),
    ("First \\boxed{3}, then \\boxed{4}.", "$4$"),
    ("Answer: 5, that is \\boxed{6}", "$6$"),
    ("\\boxed{6}\nAnswer: 5", "$6$"),
    ("\\boxed {18}", "$18$"),
    ("\\fbox{18}", "$18$"),
    (
        "\\boxed{\\begin{pmatrix} 1 \\\\\n2 \\end{pmatrix}}",
        "$\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}$",
    ),
    ("\\boxed{\\left\\{ 3 \\right.}", "$\\left\\{ 3 \\right.$"),
    # A box that nobody closed, as where a text was cut off, is none.
    ("3 * 6 = 18, so \\boxed{18", "3 * 6 = 18, so \\boxed{18"),
    ("Answer: 18\nSo \\boxed{\\frac{1}{2}", "18"),
    ("First \\boxed{3}, then \\boxed{4", "$3$"),
    ("\\boxed{3} and an empty \\boxed{ }", "$3$"),
    # A marked line that begins with a number means that one.
    ("Answer: 18 apples (3 boxes of 6)", "18 apples"),
    ("#### 18 apples (3 boxes of 6)", "18 apples"),
    ("The answer is **$18**, or 3 boxes of 6 dollars.", "18,"),
    ("Answer: 18 apples and 3 pears", "18"),
    ("Answer: $18$ apples (3 boxes of $6$)", "$18$ apples"),
    ("Answer: 3 boxes * 6 apples = 18 apples", "18 apples"),
    ("Answer: She has 3 boxes with 18 apples", "She has 3 boxes with 18 apples"),
    # LaTeX behind a mark needs no digit.
    ("2 * 1 = 2\nAnswer: \\pi", "\\pi"),
    # Nothing is marked: the last line with a number.
    ("18", "18"),
    ("-18", "-18"),
    ("**18**", "18"),
    ("3 + 4 = 7\n7 * 2 = 14", "7 * 2 = 14"),
    ("She has 18 apples.\nI hope this helps!", "She has 18 apples."),
    ("Es sind 18.", "Es sind 18."),
    ("\u7b54\u6848\u662f 18\u3002", "\u7b54\u6848\u662f 18\u3002"),
    # Nothing at all.
    ("", None),
    ("   \n\n ", None),
    ("I do not know.", None),
    ("Answer: none", None),
    ("\\boxed{", None),
]


@pytest.mark.parametrize(("text", "answer"), FORMS)
def test_the_final_answer_of(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "and so on, " * 1000 + "Answer: 18",
        "Answer: 18\n" + "That is it. " * 1000,
        "\\boxed{18}" + " and so on" * 1000,
        "#### 18\n" + "\n" * 5000,
    ],
)
def test_a_long_text_around_it_is_no_part_of_it(text):
    assert final_answer(text) in ("18", "$18$")


def test_of_a_long_line_the_end_counts_and_no_more_of_it_than_a_value_could_have():
    line = "and 17 and " * 1000 + "is 18"
    assert final_answer(line) == line[-200:].strip()
    assert final_answer(f"Answer: {line}") == line[-200:].strip()


def test_a_box_may_be_as_long_as_it_is():
    inside = "+".join(["1"] * 500)
    assert final_answer(f"\\boxed{{{inside}}}") == f"${inside}$"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 + 4 = 7\nAnswer: x + y", "x + y"),
        ("The answer is **Tuesday**.", "Tuesday."),
        ("Answer: B\nThe answer is of great use to us.", "B"),
        ("Answer: 5", "5"),
        ("\\boxed{x}", "$x$"),
        ("Answer: I do not know", None),
        ("3 + 4 = 7", None),
        ("Tuesday", None),
    ],
)
def test_an_answer_that_needs_no_number_stands_in_a_box_or_behind_a_mark(text, answer):
    assert final_answer(text, needs_number=False) == answer


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        # Of a solution, as of an answer.
        ("So 1,000 + 200.\n#### 1,200", "1,200"),
        ("$2 + 2 = 4$, so \\boxed{4}.", "$4$"),
        ("3 + 4 = 7\n7 * 2 = 14", "7 * 2 = 14"),
        ("With 2 terms:\nAnswer: x + y", "x + y"),
        # Alone, as in MATH's rows.
        ("18", "18"),
        ("2\\pi", "2\\pi"),
        ("[0, 1)", "[0, 1)"),
        ("\\pi", "\\pi"),
        ("x + y", "x + y"),
        ("\\text{Tuesday}", "\\text{Tuesday}"),
        ("\\text{no solution}", "\\text{no solution}"),
        ("(B)", "(B)"),
        ("Tuesday", "Tuesday"),
        ("\\begin{pmatrix}\n1 \\\\\n2\n\\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
        # No value at all.
        ("", None),
        ("It depends.", None),
        ("x + y" * 100, None),
        ("\\boxed{", None),
    ],
)
def test_the_final_answer_of_a_reference(reference, answer):
    assert expected_answer(reference) == answer
    assert holds_number("2\\pi") and not holds_number("x + y")


@given(st.text())
def test_any_text_has_one_or_none(text):
    found = final_answer(text)
    assert found is None or isinstance(found, str)
    if not any(sign.isdigit() for sign in text) and "\\" not in text:
        assert found is None


@given(st.integers(0, 10**9), st.sampled_from(["#### {}", "Answer: {}", "The answer is {}"]))
def test_what_stands_before_the_mark_does_not_matter(number, form):
    said = form.format(number)
    assert final_answer(f"3 + 4 = 7, and 7 * 2 = 14.\n{said}") == final_answer(said) == str(number)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: -5", "-5"),
        ("Answer: .5", ".5"),
        ("To answer this we need 3 boxes.\nThe total is 12.", "The total is 12."),
        ("Answer: $10^{10}$", "$10^{10}$"),
    ],
)
def test_signs_and_latex_stay_and_prose_is_no_mark(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    ["Answer:" + " " * 100_000, "answer is " * 10_000, "\\boxed{" * 20_000, "####\\" * 50_000],
)
def test_no_text_takes_long_to_read(text):
    # The pattern of before took a minute for 500 spaces; this test would not end under it.
    assert final_answer(text) is None
    assert expected_answer(text) is None
