"""Tell the forms of texts: code, JSON, a final answer; and texts that tell what they should not."""

import json
import re
from collections.abc import Callable, Mapping


def forms_of(text: str) -> frozenset[str]:
    """Name the forms of a text that an improved text must keep, such as a code block."""
    return frozenset(name for name, has in _FORMS.items() if has(text))


def gives_away(text: str, unseen: str = "") -> bool:
    """Tell whether a text speaks of, or quotes, a solution or test that its reader has not seen.

    A quote is a whole line of the `unseen` text of five words or more. "The given solution" is not
    counted: reviewers call the answer under review so.
    """
    if _GIVES_AWAY.search(text) is not None:
        return True
    said = " ".join(text.split())
    lines = (line.split() for line in unseen.splitlines())
    return any(len(words) >= _QUOTE and " ".join(words) in said for words in lines)


def sees_no_fault(critique: str) -> bool:
    """Tell whether a critique calls the answer right and names nothing against it, by its words.

    It is rough. A word that may name a fault ("but", "not", "fails") is enough for a no.
    """
    return _NO_FAULT.search(critique) is not None and _BUT.search(critique) is None


_NO_FAULT = re.compile(
    r"\bno\s+(?:\w+\s+)?(?:mistakes?|errors?|faults?|issues?|problems?)\b"
    r"|\b(?:is|are|was|were|looks?|seems?)\s+(?:all\s+|entirely\s+|indeed\s+)?(?:correct|right)\b"
    r"|\bcorrectly\b",
    re.IGNORECASE,
)
_BUT = re.compile(
    r"\b(?:however|but|although|though|except|until|only|not|cannot|fail(?:s|ed)?|mistake\s+is|error\s+is"
    r"|should\s+(?:be|have)|instead|incorrect(?:ly)?|wrong(?:ly)?|missing|misse[sd])\b|n['\u2019]t\b",
    re.IGNORECASE,
)
_GIVES_AWAY = re.compile(
    r"\b(?:reference|official|expected|sample)\s+(?:solution|answer)\b"
    r"|\bcorrect\s+solution\s+(?:above|given|provided|shown|states|says|shows)\b"
    r"|\b(?:as|in|from|with|to)\s+the\s+correct\s+solution\b"
    r"|\bfor\s+(?:your|my)\s+eyes\s+only\b|\b(?:this|the)\s+note\b"
    r"|\bas\s+if\s+you\s+had\s+(?:worked|found)\s+it\b"
    r"|\bthe\s+(?:hidden\s+)?tests?\s+(?:found|showed|says?)\b",
    re.IGNORECASE,
)
_QUOTE = 5  # words; a shorter line ("Answer: 18", "return n + 1") two people write alike
_FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
_FINAL = re.compile(
    r"\\boxed\{|^\W*(?:#### \S*\d|(?:final )?answer\W*[:=])", re.MULTILINE | re.IGNORECASE
)


def _is_json(text: str) -> bool:
    bare = re.sub(r"\A\s*```\w*\n|\n```\s*\Z", "", text).strip()
    if not bare.startswith(("{", "[")):
        return False
    try:
        json.loads(bare)
    except (ValueError, RecursionError):  # too deep to be meant as JSON
        return False
    return True


_FORMS: Mapping[str, Callable[[str], bool]] = {
    "code block": lambda text: _FENCE.search(text) is not None,
    "final answer": lambda text: _FINAL.search(text) is not None,
    "JSON": _is_json,
}
