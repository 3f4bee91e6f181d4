"""Remember what a failed assertion compared, in short texts."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_TEXT = 200  # characters: a corrector has to read them


class Shown:
    """Evaluate the assertions of one test, and remember the one that does not hold."""

    def __init__(self) -> None:
        self._failed: tuple[str, Any, Any, bool] = ("", None, None, False)

    def equal(self, call: str, flipped: bool, left: Any, right: Any) -> Any:
        """Compare two values; the right one is that of `call` if `flipped`, else the left one."""
        holds = left == right
        if not holds:
            self._failed = (call, *((right, left) if flipped else (left, right)), True)
        return holds

    def true(self, text: str, value: Any) -> Any:
        """Pass a value on, the truth of which is asserted."""
        if not value:
            self._failed = (text, value, None, False)
        return value

    def texts(self) -> tuple[str, str, str]:
        """Give the text of the call, of what it gave, and of what was expected."""
        call, got, expected, compared = self._failed
        return call, short(got), short(expected) if compared else "a true value"


def short(value: Any) -> str:
    """Write a value in at most `_MOST_TEXT` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = f"<{type(value).__name__} too long to write>"
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 3]}..."
