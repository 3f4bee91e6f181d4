"""Read a critique: its rating, in the forms that real models write, and its other text.

The forms were collected from critiques by Qwen2.5-Coder (0.5B and 1.5B). The released code takes
the first `[[n]]` anywhere in a text, which may be one that is only quoted.

A judge that writes a rating and nothing else is read here, too, by its probabilities.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

# "Good.", "Looks good." and "Well done!" do not help a refinement; it takes at least three words to
# name a thing and a fault ("Misses negative numbers.", "Off by one"). The shortest critique of the
# miniature world has six ("Fruits: a1 apple good, none missing.").
MIN_WORDS = 3

_MARKUP = re.compile(r"[*_`#~>]+")
# A text in Chinese or Japanese has no spaces: there each sign counts as a word.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_HEADING = re.compile(
    r"\W*(?:(?:overall|final|my)\s+)?"
    r"(?:assessment|critique|evaluation|feedback|rating|review|score)\W*",
    re.IGNORECASE,
)

_LABEL = (
    r"(?:(?:overall|final|my)\s+)?(?:rating|score)(?:\s+of\s+(?:the|my)\s+answer)?"
    r"(?:\s*[:=\-\u2013\u2014]|\s+is)?\s*"
)
_BRACKETED = r"\[\[\s*(\d{1,2})\s*\]\]"
_PLAIN = r"\[?\s*(\d{1,2})(?!\d|\.\d)\s*\]?"
_OF_TEN = r"(?:\s*/\s*10(?![\d.]*\d)|\s+out\s+of\s+(?:10|ten)\b)"
_END = r"[\s.!)]*\Z"


def _pattern(form: str) -> re.Pattern[str]:
    return re.compile(form, re.IGNORECASE)


#: The whole line is a rating.
_WHOLE = (
    _pattern(rf"\s*\(?(?:{_LABEL})?{_BRACKETED}{_OF_TEN}?{_END}"),
    _pattern(rf"\s*\(?{_LABEL}{_PLAIN}{_OF_TEN}?{_END}"),
)
#: The same without a label or brackets ("7/10"): taken where the critique has no other rating.
_BARE = (_pattern(rf"\s*\(?{_PLAIN}{_OF_TEN}{_END}"),)
#: The last line ends with a rating, behind other text.
_CLOSING = (
    _pattern(rf"(?:{_LABEL})?{_BRACKETED}{_OF_TEN}?{_END}"),
    _pattern(rf"(?:(?<=[.!?;:,])\s+|\s[-\u2013\u2014]\s|\(){_LABEL}{_PLAIN}{_OF_TEN}?{_END}"),
    _pattern(
        rf"\b(?:rat(?:e|ed|ing)|score|I(?:'d|\s+would)?\s+give)\b[^.!?]*?(?<![\d.]){_PLAIN}{_OF_TEN}{_END}"
    ),
    _pattern(rf"\brating\s+(?:is|of|would\s+be)\s+{_PLAIN}{_END}"),
)
#: The first line begins with a rating, before other text. A plain number needs "of ten" or a
#: punctuation mark behind it: "Rating: 7 of the tests fail" is no rating.
_OPENING = (
    _pattern(
        rf"\s*\(?{_LABEL}(?:{_BRACKETED}|{_PLAIN}(?={_OF_TEN})){_OF_TEN}?(?=[\s.,;:!)\-\u2013])"
    ),
    _pattern(
        rf"\s*\(?{_LABEL}{_PLAIN}(?=\s*[.,;:!)\-\u2013\u2014])(?!\s*[\-\u2013\u2014]\s*(?:\d|out\b))"
    ),
)


def parse_rating(critique: str) -> int | None:
    """Read the rating 1..10 that a critique ends with, else the one it opens with.

    It stands in the last line, as `[[7]]`, `Rating: 7`, `**Rating:** 7/10`, `[[7]]!` or `[[7]] out
    of 10`, or in the first line behind its label, as `Rating: [[7]]` or `Rating: 7`. Returns None
    where there is no rating, or where it is out of range, on a scale other than 1 to 10 or not a
    whole number. A rating quoted in the middle of a text is not the critique's own.

    The number is only a format check of a critique, never its reward (released code).
    """
    rating, _ = _split(critique)
    return rating if rating is not None and 1 <= rating <= 10 else None


def critique_content(critique: str) -> str:
    """Remove ratings, their headings and markup from a critique; return the other text."""
    _, rest = _split(critique)
    lines = (line.strip() for line in rest.splitlines())
    return "\n".join(
        line
        for line in lines
        if line
        and not _HEADING.fullmatch(line)
        and _match(_WHOLE + _BARE, line, whole=True) is None
    )


def words_of(text: str) -> list[str]:
    """Split a text into words in lower case."""
    return _WORD.findall(text.lower())


def is_critique(text: str, rated: bool = True) -> bool:
    """Tell whether a text is a well-formed critique: a rating and at least `MIN_WORDS` other words.

    Where the critique was not `rated`, as nobody asked for a rating, it needs none.

    The released code demands the rating alone. Then "Rating: [[5]]" would be a critique, and small
    models copy this very text out of a request that shows it (the rule is ours).
    """
    has_rating = not rated or parse_rating(text) is not None
    return has_rating and len(words_of(critique_content(text))) >= MIN_WORDS


@dataclass(frozen=True, slots=True)
class Token:
    """Hold a token that a model wrote, and the log probabilities of it and others in its place."""

    text: str
    likely: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, text: str, logprob: float, others: Iterable[tuple[str, float]]) -> Self:
        """Make it of the token written and the most likely ones, which may hold it or not."""
        likely = tuple(others)
        written = () if any(other == text for other, _ in likely) else ((text, logprob),)
        return cls(text, (*written, *likely))


def expected_rating(text: str, tokens: Sequence[Token], best: int) -> float | None:
    """Return the rating 1..best of a reply: its mean over the probabilities, else the one written.

    The rating is the only number in the text, begins or ends it, and has one digit, so that one
    token holds all of it: "1" and "10" may begin with the same token. Of the tokens in its place
    those that are a rating count, by their probabilities, which are made to sum to 1. Tokens of
    another text are not looked at. Returns None where the text holds no rating.
    """
    rating = _written(text, best)
    if rating is None:
        return None
    # Servers that part a model's thinking from its reply may give the tokens of both.
    whole = "".join(token.text for token in tokens).strip() == text.strip()
    place = next((t for t in tokens if whole and _NUMBER.search(t.text)), None)
    if place is None or _digit(place.text, best) != rating:
        return float(rating)
    found = ((_digit(each, best), logprob) for each, logprob in place.likely)
    likely = [(each, logprob) for each, logprob in found if each and math.isfinite(logprob)]
    if not likely:
        return float(rating)
    # Relative to the likeliest, so that they cannot all be too small for a float.
    most = max(logprob for _, logprob in likely)
    weights = [math.exp(logprob - most) for _, logprob in likely]
    total = math.fsum(each * w for (each, _), w in zip(likely, weights, strict=True))
    # The division may round to just beyond the scale.
    return min(max(total / math.fsum(weights), 1.0), float(best))


#: A number, with what would make it another one: a sign, letters, a fraction.
_NUMBER = re.compile(r"[-\u2212]?\w*\d\w*(?:[.,]\w*\d\w*)*")
_DIGIT = re.compile(r"[^\w\u2212-]*([1-9])\W*")


def _written(text: str, best: int) -> int | None:
    """Return the rating that a text begins or ends with, if it holds no other number; else None."""
    bare = re.sub(rf"(?<=\d)\s*(?:/|out\s+of)\s*{best}\b", "", text)
    numbers = list(_NUMBER.finditer(bare))
    if len(numbers) != 1:
        return None
    (number,) = numbers
    if re.search(r"\w", bare[: number.start()]) and re.search(r"\w", bare[number.end() :]):
        return None
    return _digit(number.group(), best)


def _digit(text: str, best: int) -> int | None:
    """Return the rating that a text is, beside spaces and marks; None where it is none."""
    found = _DIGIT.fullmatch(text)
    return int(found.group(1)) if found and int(found.group(1)) <= best else None


def _split(critique: str) -> tuple[int | None, str]:
    """Split a critique into its rating (or None) and its other text, without markup."""
    lines = [line for line in _MARKUP.sub("", critique).splitlines() if line.strip()]
    if not lines:
        return None, ""
    *before, last = lines
    if before and _HEADING.fullmatch(before[-1]) and last.strip().isdigit():
        last = f"Rating: {last}"  # "## Rating" above, and the number on a line of its own
    if (found := _match(_WHOLE, last, whole=True) or _match(_CLOSING, last)) is not None:
        return _number(found), "\n".join([*before, last[: found.start()]])
    first, *after = lines
    if (found := _match(_WHOLE, first, whole=True) or _at_start(_OPENING, first)) is not None:
        return _number(found), "\n".join([first[found.end() :], *after])
    if (found := _match(_BARE, last, whole=True)) is not None:
        return _number(found), "\n".join(before)
    if (found := _match(_BARE, first, whole=True)) is not None:
        return _number(found), "\n".join(after)
    return None, "\n".join(lines)


def _match(
    forms: tuple[re.Pattern[str], ...], line: str, whole: bool = False
) -> re.Match[str] | None:
    found = (form.fullmatch(line) if whole else form.search(line) for form in forms)
    return next(filter(None, found), None)


def _at_start(forms: tuple[re.Pattern[str], ...], line: str) -> re.Match[str] | None:
    return next(filter(None, (form.match(line) for form in forms)), None)


def _number(found: re.Match[str]) -> int:
    return int(next(group for group in found.groups() if group is not None))
