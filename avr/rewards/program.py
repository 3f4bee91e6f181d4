"""Find the program in an answer."""

import ast
import re

_BLOCK = re.compile(
    r"^[ \t]*(```|~~~)[ \t]*(?:python3?|py)?[ \t]*\n(.*?)^[ \t]*\1[ \t]*$",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
_OPEN = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*(?:python3?|py)?[ \t]*\n(.*)\Z", re.M | re.S | re.I)
_DEFINES = re.compile(r"^(?:async\s+def|def|class)\s", re.MULTILINE)


def program_of(answer: str) -> str | None:
    """Return the Python program of an answer, or None where it holds none.

    It is the last code block that defines a function or class: models often show how to call it
    in a block of its own. Without such a block it is the last block, also one that was cut off, or
    the whole answer where that is Python.
    """
    blocks = [found.group(2) for found in _BLOCK.finditer(answer)]
    if not blocks and (cut := _OPEN.search(answer)) is not None:
        blocks = [cut.group(1)]
    defining = [block for block in blocks if _DEFINES.search(block)]
    if defining or blocks:
        return (defining or blocks)[-1]
    return answer if _DEFINES.search(answer) and _is_python(answer) else None


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
