"""Test texts for repetition and length. Rules marked "released" are the released code's.

The others are ours.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from avr.core.forms import gives_away, sees_no_fault
from avr.core.growth import Shape, is_right, unseen_of
from avr.core.tree import RefinementTree, Response

MAX_REPEATS = 60  # released: a word, or a run of symbols, that occurs this often counts as a loop
_LONG_WORD = 200  # characters: a ruled line ("-----") is shorter, and it is no loop
_LATIN_LETTER = re.compile(r"[a-zA-Z]")
_WORD = re.compile(r"\w+")
_SYMBOLS_OR_DIGITS = re.compile(r"[\d\W]+")


def no_repeated_word(text: str) -> bool:
    """Check that no word and no run of symbols and digits occurs 60 times or more (released).

    Runs are counted in the text without its spaces; a line break is a symbol. In a text without a
    Latin letter, single characters are counted instead of words. The rule rejects long honest
    texts too ("the" 60 times), so in effect it is a hidden length cap.
    """
    words = _WORD.findall(text.lower()) if _LATIN_LETTER.search(text) else list(text)
    runs = _SYMBOLS_OR_DIGITS.findall(text.replace(" ", ""))
    return all(max(Counter(found).values(), default=0) < MAX_REPEATS for found in (words, runs))


def no_loop(text: str, min_repeats: int = 4, min_words: int = 24, max_period: int = 64) -> bool:
    """Check that the text does not end in a phrase that is repeated over and over (ours).

    A sampling loop is a tail with a period: the last `min_words` or more words consist of one
    phrase of at most `max_period` words, at least `min_repeats` times in a row. Long honest texts
    pass, however often they use a word. A last "word" of `_LONG_WORD` or more characters (Chinese
    has no spaces) is checked in the same way, by its characters.
    """
    words = text.split()
    return not (
        _repeats_at_its_end(words, min_repeats, min_words, max_period)
        or any(_repeats_at_its_end(w, min_repeats, _LONG_WORD, max_period) for w in words[-1:])
    )


def _repeats_at_its_end(
    parts: Sequence[str], min_repeats: int, least: int, max_period: int
) -> bool:
    for period in range(1, min(max_period, len(parts) // min_repeats) + 1):
        tail = period
        while tail < len(parts) and parts[-1 - tail] == parts[-1 - tail + period]:
            tail += 1
        if tail >= max(least, period * min_repeats):
            return True
    return False


def discreet(tree: RefinementTree, texts: Iterable[str], shape: Shape) -> bool:
    """Check that no text but y0 gives away what the corrector was shown of the truth (ours).

    y0 was written by a model that saw nothing. Where the corrector saw nothing either all pass.
    """
    if shape.sees == "nothing":
        return True
    unseen = unseen_of(tree, shape)
    return not any(gives_away(text, unseen) for text in texts if text != tree.first.text)


def sees_fault(answer: Response, critique: str, truth: str) -> bool:
    """Check that a critique does not praise an answer that the judge `truth` calls wrong (ours).

    Praise is told by words (`avr.core.forms.sees_no_fault`). Without a judge that knows, all pass.
    """
    return not truth or is_right(answer, truth) or not sees_no_fault(critique)


def passes_length_control(text: str, reference: str) -> bool:
    """Check that a text is not much longer than the reference (released).

    It may be under 400 characters longer, or under 1.2 times as long.
    """
    return len(text) < len(reference) + 400 or len(text) < 1.2 * len(reference)
