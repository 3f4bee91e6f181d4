"""Find the final answer in a text on mathematics, in the forms that data sets and models write."""

import re

_BOXED = "\\boxed{"
# "Answer: 18", "**Final answer:** $18", "The answer is 18.", "#### 18" (GSM8K). Each part has a
# bound: a pattern that tries all splits of a long line would stop the event loop that asks.
_MARK = re.compile(
    r"####|\banswer\b[*_ ]{0,4}(?:[:=]|is\b[*_ ]{0,4}:?)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d")
_LONGEST = 200  # characters; what is longer is a text, and no value


def final_answer(text: str) -> str | None:
    """Return the part of a text that holds its final answer, or None.

    It is the last `\\boxed{...}`, else what follows the last "answer:" or "####" on its line, else
    the last line with a number. What the part is worth is for math-verify to read.
    """
    if (boxed := _last_boxed(text)) is not None:
        return boxed
    with_numbers = [line for line in text.splitlines() if _NUMBER.search(line)]
    marked = [part for line in with_numbers if (part := _behind_mark(line))]
    lines = marked or [line.strip() for line in with_numbers]
    return _bare(lines[-1][-_LONGEST:]) if lines else None


def _behind_mark(line: str) -> str:
    """Return what follows the last mark of a line and holds a number, else ""."""
    parts = [line[mark.end() :] for mark in _MARK.finditer(line)]
    return next((part for part in reversed(parts) if _NUMBER.search(part)), "")


def _bare(part: str) -> str:
    """Remove emphasis, which math-verify would read as a product."""
    bare = part.replace("**", "").replace("__", "").strip(" \t*")
    # A single dollar sign is money, two of them are LaTeX.
    return bare.removeprefix("$").strip() if bare.count("$") == 1 else bare


def _last_boxed(text: str) -> str | None:
    """Return the content of the last box whose braces match, or None."""
    start = text.rfind(_BOXED)
    if start < 0:
        return None
    depth = 0
    for end in range(start + len(_BOXED) - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            # In its own marks, so that math-verify reads LaTeX.
            return f"${text[start + len(_BOXED) : end].strip()}$"
    return None
