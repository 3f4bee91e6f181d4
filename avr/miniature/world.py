"""Define requests, answers and critiques as values, and the one text form of each.

A request asks for two or three lists: `List (a) three fruits and (b) two tools.` An answer fills
them: `Fruits: a1 apple, a2 plum, a3 pear. Tools: b1 saw, b2 drill.` and may end with filler
sentences. A critique repeats every item with a verdict and ends with a rating: `Fruits: a1 apple
good, a2 saw wrong, one missing. Tools: ... none missing. Rating: [[6]]`. Labels (`a1`) occur once
per text, so that looking up or copying an item needs one step. Each `render_*` is the inverse of
its `parse_*`. Standard library only; the formats are ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from avr.miniature.vocabulary import CATEGORIES, COUNTS, OPENINGS

CHECK_REQUEST = "Check each item and rate the answer."
REFINE_REQUEST = "Now write the improved answer."

LETTERS = "abc"
#: The longest list that is read: four words that were requested, and two too many.
MAX_ITEMS = 6
VERDICTS = ("good", "wrong", "repeated", "extra")
MISSING = ("none", "one", "two", "three")

_COUNT_WORD = {number: word for word, number in COUNTS.items()}
_SLOT = re.compile(r"\(([abc])\) (two|three|four) ([a-z]+)")
_FILLER = re.compile(r"(?: [A-Z][A-Za-z ]*\.)*")


@dataclass(frozen=True, slots=True)
class Slot:
    """Hold one requested list: `count` words of `category`."""

    count: int
    category: str


@dataclass(frozen=True, slots=True)
class Request:
    """Hold the lists that a prompt asks for; `opening` indexes `OPENINGS`."""

    slots: tuple[Slot, ...]
    opening: int = 0

    @property
    def key(self) -> str:
        """Return the request's identity up to wording and order: it keeps prompt sets disjoint."""
        return " ".join(sorted(f"{slot.category}:{slot.count}" for slot in self.slots))


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold an answer's words, a tuple per slot, and the filler text behind them (may be empty)."""

    lists: tuple[tuple[str, ...], ...]
    filler: str = ""


@dataclass(frozen=True, slots=True)
class Critique:
    """Hold each slot's items, their verdicts and how many are missing; then a rating 1..10."""

    lists: tuple[tuple[str, ...], ...]
    verdicts: tuple[tuple[str, ...], ...]
    missing: tuple[int, ...]
    rating: int


def render_prompt(request: Request) -> str:
    """Render a request as the user's text."""
    parts = [
        f"({letter}) {_COUNT_WORD[slot.count]} {slot.category}"
        for letter, slot in zip(LETTERS, request.slots, strict=False)
    ]
    start, end = OPENINGS[request.opening]
    return start + ", ".join(parts[:-1]) + " and " + parts[-1] + end


def parse_prompt(text: str) -> Request | None:
    """Parse the request of a prompt; None for any text that `render_prompt` cannot write."""
    slots = tuple(
        Slot(COUNTS[count], category)
        for _, count, category in _SLOT.findall(text)
        if category in CATEGORIES
    )
    if not 2 <= len(slots) <= len(LETTERS):
        return None
    for opening in range(len(OPENINGS)):
        request = Request(slots, opening)
        if render_prompt(request) == text:
            return request
    return None


def render_answer(request: Request, answer: Answer) -> str:
    """Render an answer as the assistant's text."""
    sections = [
        f"{slot.category.capitalize()}: " + ", ".join(_label(letter, words)) + "."
        for letter, slot, words in zip(LETTERS, request.slots, answer.lists, strict=False)
    ]
    return " ".join([*sections, answer.filler]).rstrip()


def parse_answer(request: Request, text: str) -> Answer | None:
    """Parse the lists of an answer; None where it departs from the form in any way."""
    lists: list[tuple[str, ...]] = []
    rest = " " + text
    for letter, slot in zip(LETTERS, request.slots, strict=False):
        section, rest = _cut_section(rest, slot)
        items = [item.split(" ") for item in section.split(", ")]
        words = tuple(item[1] for item in items if len(item) == 2 and item[1].isalpha())
        if len(words) != len(items) or _label(letter, words) != section.split(", "):
            return None
        lists.append(words)
    if not _FILLER.fullmatch(rest) or any(len(words) > MAX_ITEMS for words in lists):
        return None
    return Answer(tuple(lists), rest[1:])


def render_critique(request: Request, critique: Critique) -> str:
    """Render a critique as the assistant's text."""
    sections = []
    rows = zip(
        LETTERS, request.slots, critique.lists, critique.verdicts, critique.missing, strict=False
    )
    for letter, slot, words, verdicts, missing in rows:
        labelled = _label(letter, words)
        items = [f"{item} {verdict}" for item, verdict in zip(labelled, verdicts, strict=True)]
        items.append(f"{MISSING[missing]} missing")
        sections.append(f"{slot.category.capitalize()}: " + ", ".join(items) + ".")
    return " ".join(sections) + f" Rating: [[{critique.rating}]]"


def parse_critique(request: Request, text: str) -> Critique | None:
    """Parse the critique of a text; None where it departs from the form in any way."""
    lists, verdicts, missing = [], [], []
    rest = " " + text
    for slot in request.slots:
        section, rest = _cut_section(rest, slot)
        *items, count = (part.split(" ") for part in section.split(", "))
        if any(len(item) != 3 or item[2] not in VERDICTS for item in items):
            return None
        if len(count) != 2 or count[0] not in MISSING or not items:
            return None
        lists.append(tuple(item[1] for item in items))
        verdicts.append(tuple(item[2] for item in items))
        missing.append(MISSING.index(count[0]))
    rating = re.fullmatch(r" Rating: \[\[(10|[1-9])\]\]", rest)
    if rating is None:
        return None
    critique = Critique(tuple(lists), tuple(verdicts), tuple(missing), int(rating[1]))
    return critique if render_critique(request, critique) == text else None


def _label(letter: str, words: tuple[str, ...]) -> list[str]:
    return [f"{letter}{place} {word}" for place, word in enumerate(words, start=1)]


def _cut_section(text: str, slot: Slot) -> tuple[str, str]:
    """Cut ` Category: body. rest` into (body, rest); the body is empty without the header."""
    head, dot, rest = text.partition(".")
    start = f" {slot.category.capitalize()}: "
    return (head[len(start) :], rest) if dot and head.startswith(start) else ("", text)
