"""Judge exactly in this world: verdicts, quality and the rating that follows from it.

quality = sum over slots of min(n, distinct correct) / sum over slots of max(n, listed), in [0, 1];
an answer that cannot be parsed has quality 0. Standard library only; the rules are ours.
"""

from __future__ import annotations

from avr.miniature.vocabulary import CATEGORY_OF
from avr.miniature.world import Answer, Critique, Request, Slot, parse_answer, parse_prompt


def quality(prompt: str, answer: str) -> float:
    """Return the quality of an answer's text, in [0, 1].

    Raises ValueError if the prompt is not one of this world.
    """
    request = parse_prompt(prompt)
    if request is None:
        raise ValueError(f"not a prompt of the miniature world: {prompt!r}")
    parsed = parse_answer(request, answer)
    return 0.0 if parsed is None else answer_quality(request, parsed)


def answer_quality(request: Request, answer: Answer) -> float:
    """Return the quality of a parsed answer, in [0, 1]; filler counts neither way."""
    pairs = list(zip(request.slots, answer.lists, strict=True))
    earned = sum(min(slot.count, _num_distinct_correct(slot, words)) for slot, words in pairs)
    return earned / sum(max(slot.count, len(words)) for slot, words in pairs)


def true_verdicts(slot: Slot, words: tuple[str, ...]) -> tuple[str, ...]:
    """Give one verdict an item: extra (beyond the count), wrong (category), repeated, else good."""
    verdicts = []
    for place, word in enumerate(words):
        if place >= slot.count:
            verdicts.append("extra")
        elif CATEGORY_OF.get(word) != slot.category:
            verdicts.append("wrong")
        else:
            verdicts.append("repeated" if word in words[:place] else "good")
    return tuple(verdicts)


def true_critique(request: Request, answer: Answer) -> Critique:
    """Write the critique without a mistake."""
    pairs = list(zip(request.slots, answer.lists, strict=True))
    return Critique(
        lists=answer.lists,
        verdicts=tuple(true_verdicts(slot, words) for slot, words in pairs),
        missing=tuple(max(0, slot.count - len(words)) for slot, words in pairs),
        rating=rating_of(answer_quality(request, answer)),
    )


def rating_of(value: float) -> int:
    """Return the rating 1..10: ten times the quality, halves rounded up, at least 1."""
    return max(1, int(10 * value + 0.5))


def _num_distinct_correct(slot: Slot, words: tuple[str, ...]) -> int:
    return len({word for word in words if CATEGORY_OF.get(word) == slot.category})
