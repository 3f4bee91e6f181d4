"""Put a final answer into the marks that math-verify reads LaTeX in, where it is LaTeX."""

import re

LONGEST = 200  # characters; what is longer is a text, and no value
_MARKS = re.compile(r"\$|\\\(|\\\[")
_COMMAND = re.compile(r"\\[a-zA-Z$]")
# A command, with its text where it holds one; "and" and "or" join values.
_NO_WORD = re.compile(
    r"\\(?:text|mbox|mathrm|operatorname|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+|\band\b|\bor\b"
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_SAYS_SOMETHING = re.compile(r"[^\W_]")
_ONE_WORD = re.compile(r"[^\W\d_]{3,}\.?")
# One number in parts, in LaTeX: 1\,200 and 1{,}200 and 1 200.
_IN_PARTS = re.compile(
    r"(?<![\d.,])[1-9]\d{0,2}(?:(?:\\[,:;!\s]|,\\!|\{,\}|[~\s])\s*\d{3})+(?![\d/])"
)
_NO_DIGIT = re.compile(r"\D+")
_MIXED = re.compile(r"\$?(?<![\d./,])(-?\d+)\s+(\d+)/(\d+)(?![\d/])")
_BEFORE_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_JOINED = re.compile(r",|\band\b|\bor\b")
# A letter beside an operator, or behind a digit: x = 4, a+b, 2x. "5 km" and "-5 m" are numbers.
_ALGEBRA = re.compile(
    r"[^\W\d_].*[\^_=<>+*-]|\S\s*[\^_=<>+*-].*[^\W\d_]|\d[a-z](?![a-z])", re.DOTALL
)

# A number with a unit that LaTeX or algebra would take for letters: 100 m^2, 100m/s.
_QUANTITY = re.compile(
    r"\$?-?\d[\d.,]*(?:\s+(?:[mcdk]?m|ft|in|k?g|m?l|s|h)|\s*(?:[mcdk]?m|ft|in|s|h)\s*[\^/].*)"
)


def has_words(text: str) -> bool:
    """Say whether a text has words of three letters or more that are no part of LaTeX."""
    return _WORD.search(_NO_WORD.sub(" ", text)) is not None


def is_value(text: str) -> bool:
    """Say whether a text without a number may be a value: LaTeX, a formula or one word."""
    if len(text) > LONGEST or not _SAYS_SOMETHING.search(text):
        return False
    return not has_words(text) or _ONE_WORD.fullmatch(text) is not None


def for_math_verify(text: str) -> tuple[str, bool]:
    """Return a final answer as math-verify reads it, and whether to read it as LaTeX alone.

    LaTeX, formulas and lists that stand in no marks are put into dollar signs: of `2\\pi` the 2
    would be read. A comma stands between two values, or before thousands.
    """
    if len(text) > 2 and text[0] == text[-1] == "$" and "$" not in text[1:-1]:
        return f"${_tidy(text[1:-1])}$", False
    if _MARKS.search(text.replace("\\$", "")):
        return _MIXED.sub(r"\1\\frac{\2}{\3}", _joined(text)), False
    if _ONE_WORD.fullmatch(text):
        return f"$\\text{{{text.rstrip('.')}}}$", True
    if has_words(text):
        return _MIXED.sub(r"$\1\\frac{\2}{\3}$", _joined(text)), False
    tidy = _tidy(text)
    if _QUANTITY.fullmatch(tidy):
        return tidy, False
    if _COMMAND.search(tidy):
        return f"${tidy}$", True
    is_list = _JOINED.search(_BEFORE_THOUSANDS.sub("", tidy)) is not None
    no_number = _NO_DIGIT.fullmatch(tidy) is not None
    return (f"${tidy}$" if is_list or no_number or _ALGEBRA.search(tidy) else tidy), False


def _tidy(latex: str) -> str:
    """Write numbers so that LaTeX has each in one, and leave out a full stop."""
    ended = re.sub(r"(?<!\\right)[.,]+$", "", latex.strip())
    return _MIXED.sub(r"\1\\frac{\2}{\3}", _joined(ended))


def _joined(text: str) -> str:
    return _IN_PARTS.sub(lambda number: _NO_DIGIT.sub("", number.group()), text)
