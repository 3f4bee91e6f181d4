"""What a judge that rates by a number says of an answer: read from probabilities, else the text."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avr.core.messages import Message, assistant, user
from avr.core.ratings import Token, expected_rating
from avr.core.reward import RUBRIC, Rater, Rubric
from avr.core.roles import TreeFault
from avr.core.tree import Prompt, Verdict

PROMPT = Prompt.of((user("How many?"),), reference="The truth is 18.")
RATED = Rubric("{prompt} {answer}?", 9)


def likely(**shares):
    return tuple((token.replace("_", " "), math.log(share)) for token, share in shares.items())


def token(text, **shares):
    return Token(text, likely(**shares))


def test_the_rating_is_the_mean_over_the_probabilities_of_all_that_are_one():
    # 7 has 0.5 + 0.125, 8 has 0.25; what is no rating from 1 to 9 does not count.
    place = token("7", **{"7": 0.5, "8": 0.25, "_7": 0.125, "10": 0.0625, "I": 0.0625})
    assert expected_rating("7", [place], 9) == pytest.approx((7 * 0.625 + 8 * 0.25) / 0.875)
    assert expected_rating("7", [place], 9) == pytest.approx(51 / 7)
    # On a scale to 7 an 8 is none, either.
    assert expected_rating("7", [place], 7) == 7.0


def test_the_probabilities_are_those_in_the_place_of_the_rating():
    before = token("\n\n", **{"\n\n": 0.9, "3": 0.1})
    place, after = token(" 8", **{"_8": 0.75, "_4": 0.25}), token(".", **{".": 0.5, "2": 0.5})
    assert expected_rating("\n\n 8.", [before, place, after], 9) == pytest.approx(7.0)
    assert expected_rating("8/9", [token("8", **{"8": 0.5, "6": 0.5}), token("/9")], 9) == 7.0
    assert expected_rating("[[8]]", [token("[[8]]", **{"[[8]]": 0.5, "[[7]]": 0.5})], 9) == 7.5


def test_tokens_of_a_model_s_thinking_are_not_its_reply():
    thought, said = token("8", **{"8": 1.0}), token("8", **{"8": 0.6, "2": 0.4})
    assert expected_rating("8", [said], 9) == pytest.approx(5.6)
    assert expected_rating("8", [thought, token(" is"), said], 9) == 8.0


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [token("eight", **{"eight": 1.0})],  # another text
        [token("6", **{"6": 0.5, "2": 0.5})],  # tokens that are not of this text
        [token("8", **{"eight": 1.0})],  # no rating among the likely ones
        [Token("8", (("8", math.nan), ("2", -math.inf), ("3", math.inf)))],
    ],
)
def test_without_probabilities_the_rating_is_the_number_in_the_text(tokens):
    assert expected_rating("8", tokens, 9) == 8.0


FORMS = """
{}|**{}**|[[{}]]|({})|Rating: {}|Rating: {}.|My rating is {}!|{}/9|{} / 9.|I rate it {} out of 9
{} out  of 9: good|{} - a good answer
"""


@pytest.mark.parametrize("form", [" {}\n", *FORMS.strip().replace("\n", "|").split("|")])
def test_a_rating_begins_or_ends_its_text(form):
    for number in range(1, 10):
        assert expected_rating(form.format(number), [], 9) == number


OTHERS = """
good|0|10|77|-7|\u22127|7.5|7,5|7 or 8|7/10|7/90|7-8|1 to 9: 7|GPT4|7th|There is 1 mistake in it
seven|\uff17|\u00b2
"""


@pytest.mark.parametrize("text", ["", *OTHERS.strip().replace("\n", "|").split("|")])
def test_anything_else_is_no_rating(text):
    assert expected_rating(text, [token("7", **{"7": 1.0})], 9) is None


def test_a_rating_beyond_the_scale_is_none():
    assert expected_rating("5", [], 5) == 5.0
    assert expected_rating("5/5", [], 5) == 5.0
    assert expected_rating("6", [], 5) is None
    assert expected_rating("5/9", [], 5) is None


def test_the_likely_tokens_hold_the_one_that_was_written():
    others = (("7", -0.1), ("8", -2.0))
    assert Token.of("7", -0.1, others) == Token("7", others)
    assert Token.of("9", -4.0, others) == Token("9", (("9", -4.0), *others))
    assert Token.of("9", -4.0, ()) == Token("9", (("9", -4.0),))


DIGITS = st.sampled_from("123456789")
LOGPROBS = st.floats(-9999, 0) | st.just(-math.inf)
MORE = st.lists(st.tuples(st.sampled_from([*"0123456789", " 3", "10", "I", ""]), LOGPROBS))


@given(DIGITS, st.integers(2, 9), LOGPROBS, MORE)
def test_an_expected_rating_lies_within_its_scale(text, best, logprob, others):
    rating = expected_rating(text, [Token.of(text, logprob, others)], best)
    if int(text) > best:
        assert rating is None
    else:
        assert 1 <= rating <= best
        assert 0 <= Rubric(RUBRIC, best).share(rating) <= 1


@given(DIGITS, st.floats(-9999, -1e-3), st.floats(-50, 0))
def test_what_is_far_less_likely_hardly_moves_a_rating(text, logprob, more):
    alone = [Token.of(text, logprob, ())]
    assert expected_rating(text, alone, 9) == pytest.approx(int(text))
    with_another = [Token.of(text, logprob, (("5", logprob - 40 + more),))]
    assert expected_rating(text, with_another, 9) == pytest.approx(int(text))


def test_a_rubric_is_filled_in_at_once_so_that_an_answer_shows_itself_nothing():
    rubric = Rubric("{prompt}|{answer}|{best}|{reference}|{other}", 5)
    assert rubric.shows_reference
    told = rubric.request(PROMPT, "{reference} {prompt} {best} \\1")
    assert told == "How many?|{reference} {prompt} {best} \\1|5|The truth is 18.|{other}"


def test_without_its_place_in_the_rubric_nobody_sees_the_reference():
    rubric = Rubric(RUBRIC, 9)
    assert not rubric.shows_reference
    told = rubric.request(PROMPT, "It is {reference}.")
    assert "The truth" not in told
    assert "<request>\nHow many?\n</request>" in told
    assert "<answer>\nIt is {reference}.\n</answer>" in told
    assert "from 1 (useless) to 9 (nothing left to improve)" in told


def test_the_turns_of_a_longer_prompt_are_told_apart():
    turns = (Message("system", "Be brief."), user("Hi"), assistant("Hello"), user("How many?"))
    told = Rubric("{prompt}#{answer}", 9).request(Prompt.of(turns), "18")
    assert told == "system: Be brief.\n\nuser: Hi\n\nassistant: Hello\n\nuser: How many?#18"
    without = Rubric("{prompt}{answer}[{reference}]", 9)
    assert without.request(Prompt.of(turns[-1:]), "18") == "How many?18[]"


@pytest.mark.parametrize(
    ("text", "best", "words"),
    [
        ("Rate {answer}.", 9, "rubric has no {prompt}: the judge would not see it"),
        ("Rate {prompt}.", 9, "rubric has no {answer}: the judge would not see it"),
        ("", 9, "rubric has no {prompt}: the judge would not see it"),
        (RUBRIC, 1, "best is 1, must be 2 to 9: a rating of one digit is one token, whose"),
        (RUBRIC, 10, "best is 10, must be 2 to 9: a rating of one digit is one token, whose"),
    ],
)
def test_a_rubric_that_cannot_be(text, best, words):
    with pytest.raises(ValueError) as caught:
        Rubric(text, best)
    assert str(caught.value).startswith(words)


def test_the_share_of_a_scale():
    assert [Rubric(RUBRIC, 9).share(rating) for rating in (1, 5, 7, 9)] == [0.0, 0.5, 0.75, 1.0]
    assert [Rubric(RUBRIC, 2).share(rating) for rating in (1, 1.25, 2)] == [0.0, 0.25, 1.0]


def rater(*replies, max_tries=3):
    asked, left = [], list(replies)

    async def rate(conversation):
        asked.append(conversation)
        return left.pop(0)

    return Rater("mine", RATED, max_tries, rate), asked


def test_a_judge_is_asked_again_until_a_reply_holds_a_rating():
    mine, asked = rater(("Good!", ()), ("10", ()), ("5", (token("5", **{"5": 0.5, "7": 0.5}),)))
    assert asyncio.run(mine.score(PROMPT, "18")) == Verdict("mine", pytest.approx(0.625))
    assert asked == [(user("How many? 18?"),)] * 3


def test_an_answer_that_never_gets_a_rating_is_at_fault():
    mine, asked = rater(("Good!", ()), ("x" * 100, ()), max_tries=2)
    words = (
        "the judge 'mine' gave no rating from 1 to 9, 2 times; its last reply ended with"
        f" '{'x' * 80}'"
    )
    with pytest.raises(TreeFault) as caught:
        asyncio.run(mine.score(PROMPT, "18"))
    assert (str(caught.value), len(asked)) == (words, 2)


def test_an_empty_answer_gets_nothing_and_nobody_is_asked():
    mine, asked = rater()
    assert asyncio.run(mine.score(PROMPT, " \n")) == Verdict("mine", 0.0)
    assert asked == []
