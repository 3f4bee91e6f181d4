"""What a critique says and how it rates, as real models write both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avr.core.ratings import MIN_WORDS, critique_content, is_critique, parse_rating, words_of

SAYS = "The loop stops one item too early."
NUMBERS = st.integers(1, 10)
WORDS = st.lists(st.sampled_from(["the", "loop", "stops", "early", "fix", "it"]), min_size=3)
#: Whole ratings, as real models write them.
FORMS = [
    "[[{n}]]",
    "[[ {n} ]].",
    "[[{n}]]/10",
    "[[{n}]]!",
    "[[{n}]] out of 10",
    "Rating: [[{n}]]",
    "Rating: [[{n}]] / 10",
    "Rating: {n}",
    "Rating: {n}/10",
    "Rating: {n} out of 10.",
    "**Rating:** {n}",
    "**Rating: {n}/10**",
    "### Rating: **{n}**",
    "`Rating: [[{n}]]`",
    "Overall rating: {n}/10",
    "Final Rating - {n}",
    "rating = {n}",
    "Score: {n}/10",
    "Rating: [{n}]",
    "(Rating: {n})",
    "{n}/10",
]


@given(st.sampled_from(FORMS), NUMBERS, WORDS, st.booleans())
def test_a_rating_is_read_from_the_last_line_or_the_first_and_leaves_what_is_said(
    form, number, words, first
):
    said, rating = " ".join(words), form.format(n=number)
    text = "\n\n".join([rating, said] if first else [said, rating])
    assert parse_rating(text) == number
    assert words_of(critique_content(text)) == words
    assert is_critique(text)


@given(st.sampled_from(FORMS), NUMBERS)
def test_a_rating_alone_is_no_critique(form, number):
    rating = form.format(n=number)
    assert parse_rating(rating) == number
    assert critique_content(rating) == ""
    assert not is_critique(rating)
    assert not is_critique(f"{rating}\n{rating}\n{rating}")


@given(st.sampled_from(FORMS), NUMBERS)
def test_a_rating_in_the_middle_is_not_the_critiques_own(form, number):
    text = f"{SAYS}\nYou wrote {form.format(n=number)} there.\nThat is no code."
    assert parse_rating(text) is None
    assert parse_rating(f"{text}\n[[{11 - number}]]") == 11 - number


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    rating = parse_rating(text)
    assert rating is None or 1 <= rating <= 10
    assert is_critique(text) <= (rating is not None)


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Fine. Rating: [[7]]", 7),
        ("The code is right. Rating: 7", 7),
        ("It is right. (Rating: 6/10)", 6),
        ("I quote [[2]] and end with [[8]]", 8),
        ("I would rate this answer an 8 out of 10.", 8),
        ("I would give it 3/10", 3),
        ("The rating is 7.", 7),
        (f"## Review\n{SAYS}\n\n## Rating\n\n7", 7),
        (f"## Review\n{SAYS}\n\n## Rating\n7/10", 7),
        (f"Rating: [[5]] {SAYS}", 5),
        (f"Rating: 5/10 {SAYS}", 5),
        (f"Rating: 5. {SAYS}", 5),
        (f"Rating: 3\n{SAYS}\nRating: 4", 4),  # what it ends with is its last word
        ("Rating: [[8]]\nAll is fine.\nThe second step should give 3/10.", 8),
        ("Rating: 8\nThe probability is\n3/10", 8),
        ("7/10\nOff by one.\nSlow too.", 7),
        ("", None),
        ("The tests that pass:\n7", None),
        ("The game says the score is 7", None),
        ("The game says the score is 7\nThat is wrong.", None),
        ("The second step should give 3/10.", None),
        ("Rating: 4 - out of 5\nIt misses one.", None),
        ("Rating: 3-4\nIt misses one.", None),
        ("[[0]]", None),
        ("Rating: [[11]]", None),
        ("Rating: [[N]]", None),
        ("[5]", None),
        ("[[5]] but wait", None),
        ("Rating: 4/5", None),
        ("Rating: 85/100", None),
        ("Rating: 100", None),
        ("Rating: 7.5/10", None),
        ("Rating: 7 of the tests fail", None),
        ("It passes 7 out of 10.", None),
        ("The interest rate is 5.", None),
        ("It quotes 'Rating: 7'.", None),
        ('It says "Rating: [[5]]".\nNo more than that.', None),
    ],
)
def test_rating_of(text, rating):
    assert parse_rating(text) == rating


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("Rating: [[5]]", False),
        ("Good. Rating: [[8]]", False),
        ("Looks good!\n[[9]]", False),
        ("## Review\n**Good.**\n## Rating\n9/10", False),
        ("Rating: 1\n\n**Score:** 1", False),
        ("Off by one. Rating: [[4]]", True),
        ("Misses negative numbers. Rating: 4", True),
        ("Fruits: a1 apple good, none missing. Rating: [[6]]", True),  # miniature, the shortest
        ("代码没有处理空列表。\n[[4]]", True),
        (SAYS, False),
    ],
)
def test_a_critique_rates_and_says_something(text, is_one):
    assert is_critique(text) is is_one


@pytest.mark.parametrize("rating", ["Rating: [[4]]", "4/10", ""])
def test_what_a_critique_says_keeps_its_lines_and_what_it_quotes(rating):
    says = f"{SAYS}\nYou wrote Rating: [[9]]\nThat is no code."
    assert critique_content(f"{says}\n{rating}") == says
    assert critique_content(f"{rating}\n{says}") == says


def test_an_empty_critique_says_nothing():
    assert critique_content("\n") == ""


def test_three_words_are_the_least_a_critique_says():
    assert MIN_WORDS == 3
    assert is_critique("wrong at zero [[2]]") and not is_critique("wrong there [[2]]")
