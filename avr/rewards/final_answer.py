"""Find the final answer in a text on mathematics, in the forms that data sets and models write."""

import re

from avr.rewards.latex import LONGEST, has_words, is_value

# A box begins, or a brace; what a backslash escapes opens and closes nothing.
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
# "Answer: 18", "**Final answer:** $18", "The answer is 18.", "#### 18" (GSM8K). Each part has a
# bound: a pattern that tries all splits of a long line would stop the event loop that asks.
_MARK = re.compile(
    r"####|\banswer\b[*_ ]{0,4}(?:[:=]|is\b[*_ ]{0,4}:?)",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\(?:boxed|fbox)\b")
_NUMBER = re.compile(r"\d")
_NUMBER_OR_COMMAND = re.compile(r"\d|\\[a-zA-Z]")
_BEGINS_WITH_NUMBER = re.compile(r"(?:[^\w\\]|\\\$)*\d")
_REMARK = re.compile(r"\s\([^()]*\)?")
_WORD = re.compile(r"(?<![\\\w])[^\W\d_]{2,}")


def final_answer(text: str, *, needs_number: bool = True) -> str | None:
    """Return the part of a text that holds its final answer, or None.

    It is the last `\\boxed{...}`, else what follows the last "answer:" or "####" on its line, else
    the last line with a number. Of a marked line that begins with a number that number counts:
    "18 apples (3 boxes of 6)" is 18. Where no number is needed what follows a mark may be a formula
    or a word, and a line without a mark is no answer. What the part is worth is for math-verify to
    read.
    """
    if (boxed := _last_boxed(text)) is not None:
        return boxed
    lines = text.splitlines()
    if marked := [p for line in lines if (p := _behind_mark(line, needs_number=needs_number))]:
        return _first_value(marked[-1])
    with_numbers = [line.strip() for line in lines if needs_number and _NUMBER.search(line)]
    return _bare(with_numbers[-1][-LONGEST:]) if with_numbers else None


def expected_answer(reference: str) -> str | None:
    """Return the final answer of a reference: of a solution, or a value alone as in MATH's rows.

    A value alone may be without a number, such as `x + y` or `\\text{Tuesday}`; a sentence is none.
    """
    whole = " ".join(reference.split())
    alone = _bare(whole) if is_value(whole) and not _BOX.search(whole) else None
    if alone and "\\begin{" in alone:  # of several lines
        return alone
    return final_answer(reference, needs_number=False) or final_answer(reference) or alone


def holds_number(answer: str) -> bool:
    """Say whether a final answer holds a number; one of equal value then holds one as a rule."""
    return _NUMBER.search(answer) is not None


def _behind_mark(line: str, *, needs_number: bool) -> str:
    """Return what follows the last mark of a line and may be an answer, else ""."""
    # Of long lines with many marks only the end of the last number is looked at again and again.
    last = max((found.end() for found in _NUMBER_OR_COMMAND.finditer(line)), default=0)
    for mark in reversed(list(_MARK.finditer(line))):
        if last > mark.end():
            return line[mark.end() :]
        # One sign more than a value may have, in emphasis.
        part = line[mark.end() : mark.end() + LONGEST + 9]
        if not needs_number and is_value(_bare(part)):
            return part
    return ""


def _first_value(part: str) -> str:
    """Return a marked part; where it begins with a number and goes on, that number."""
    head = part[:LONGEST]
    if not _BEGINS_WITH_NUMBER.match(head):
        return _bare(part[-LONGEST:])
    value = _REMARK.sub(_without_asides, head)
    if not has_words(value):
        return _bare(value if value != head else part[-LONGEST:])
    # What a calculation comes to: "5 days x 6 = 30 hours".
    _, _, result = value.rpartition("=")
    value = result if _NUMBER.search(result) else value
    first = _NUMBER.search(value)
    word = _WORD.search(value, first.end()) if first else None
    if word and _NUMBER.search(value, word.end()):
        value = value[: word.start()]
    return _bare(value)


def _without_asides(remark: re.Match[str]) -> str:
    """Leave out a remark in words, or one that shows a calculation; "(1/2)" stays."""
    said = remark.group()
    return "" if "=" in said or has_words(said) else said


def _bare(part: str) -> str:
    """Remove emphasis, which math-verify would read as a product."""
    bare = part.replace("**", "").replace("__", "").strip(" \t*")
    # A single dollar sign is money, two of them are LaTeX.
    return bare.removeprefix("$").strip() if bare.count("$") == 1 else bare


def _last_boxed(text: str) -> str | None:
    """Return the content of the last box that is closed and holds something, or None."""
    # Where each open brace's content begins; None for a brace that is no box's.
    opened: list[int | None] = []
    last = (-1, -1)
    for brace in _BRACES.finditer(text):
        if brace.group() == "{":
            opened.append(None)
        elif brace.group() == "}":
            start = opened.pop() if opened else None
            if start is not None and start > last[0] and text[start : brace.start()].strip():
                last = (start, brace.start())
        elif brace.group().endswith("{") and len(brace.group()) > 2:
            opened.append(brace.end())
    # In its own marks, so that math-verify reads LaTeX; it reads one line.
    return f"${' '.join(text[slice(*last)].split())}$" if last[0] >= 0 else None
