"""Default requests hold nothing that a model could copy and pass off as its own work."""

import pytest

from avr.core.own_judge import META_REQUEST
from avr.core.prompts import CRITIQUE_REQUEST, REFINE_REQUEST, Templates
from avr.core.ratings import is_critique, parse_rating

RATED = [CRITIQUE_REQUEST, META_REQUEST]


@pytest.mark.parametrize("request_", RATED)
def test_no_part_of_a_request_is_a_critique_or_has_a_rating(request_):
    lines = request_.splitlines()
    parts = ["\n".join(lines[i:j]) for i in range(len(lines)) for j in range(i + 1, len(lines) + 1)]
    assert not any(parse_rating(part) or is_critique(part) for part in parts)
    assert "Rating: [[N]]" in lines  # the form is shown, in a line of its own


def test_the_refine_request_asks_for_no_rating_and_keeps_code():
    assert parse_rating(REFINE_REQUEST) is None and "[[" not in REFINE_REQUEST
    assert "code block" in REFINE_REQUEST


def test_defaults_are_the_templates():
    assert Templates() == Templates(CRITIQUE_REQUEST, REFINE_REQUEST, "")
