"""Render a recursive trajectory as one text and parse it: answer, critiques and refinements.

    START y0 (CRITIQUE c REFINEMENT y)* [CRITIQUE closing critique] END final answer

`render_trajectory` and `parse_trajectory` are each other's inverse for all texts: a marker that
stands inside a part is escaped by a backslash behind its first character. So a critique may quote
`</think>`, and the answer is what follows the one real end marker, for us and for the reasoning
parsers of serving stacks.
"""

import re
from dataclasses import dataclass, fields
from functools import cached_property


class TrajectoryError(ValueError):
    """Signal a text that is no trajectory; the message names the fault in its form."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Hold one improving turn: a critique and its refinement."""

    critique: str
    refinement: str


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Hold a whole loop. `closing` is the critique that led to no better answer, or None."""

    first: str
    turns: tuple[Turn, ...]
    closing: str | None
    answer: str


@dataclass(frozen=True)
class TrajectoryTemplate:
    """Hold the four separators of a trajectory's text, with the white space around them.

    A separator without that white space is a marker. Four empty separators (`plain`) are the form
    of a model that was not taught the loop: the whole text is its answer. Raises ValueError for
    markers that could not be told apart in a text.
    """

    start: str = "<think>\n"
    critique: str = "\n<critique>\n"
    refinement: str = "\n<refinement>\n"
    end: str = "\n</think>\n\n"

    def __post_init__(self) -> None:
        if self.plain:
            return
        markers = self.markers
        for name, marker in markers.items():
            where = f"trajectory template: the {name} marker {marker!r}"
            if len(marker) < 2:
                raise ValueError(f"{where} is too short: it needs two characters")
            if "\\" in marker:
                raise ValueError(f"{where} holds a backslash, which is the escape character")
            for other_name, other in markers.items():
                if other_name != name and marker in other:
                    raise ValueError(f"{where} stands inside {other!r}")
                shared = _overlap(marker, other)
                if shared:
                    raise ValueError(f"{where} ends as {other!r} begins, with {shared!r}")

    @property
    def plain(self) -> bool:
        """Return whether the form has no thinking: all separators are empty."""
        return not any(getattr(self, f.name) for f in fields(self))

    @property
    def markers(self) -> dict[str, str]:
        """Return the markers by name, in the order of the fields."""
        return {f.name: getattr(self, f.name).strip() for f in fields(self)}

    @cached_property
    def _any_marker(self) -> re.Pattern[str]:
        return re.compile("|".join(f"(?P<{n}>{re.escape(m)})" for n, m in self.markers.items()))

    @cached_property
    def _quoted(self) -> re.Pattern[str]:
        """Return the pattern of the place behind a quoted marker's first character.

        The marker stands in a part, escaped or not.
        """
        return re.compile(
            "|".join(
                f"(?<={re.escape(m[0])})(?=\\\\*{re.escape(m[1:])})" for m in self.markers.values()
            )
        )

    def escape(self, part: str) -> str:
        """Escape every marker in a part."""
        return self._quoted.sub(r"\\", part)

    def unescape(self, part: str) -> str:
        """Undo `escape`."""
        return self._quoted_once.sub("", part)

    @cached_property
    def _quoted_once(self) -> re.Pattern[str]:
        return re.compile(
            "|".join(
                f"(?<={re.escape(m[0])})\\\\(?=\\\\*{re.escape(m[1:])})"
                for m in self.markers.values()
            )
        )

    def split(self, text: str) -> list[tuple[str, str]]:
        """Split a text into (marker name, part behind it); "" names the part before any marker."""
        found = list(self._any_marker.finditer(text))
        names = ["", *(str(match.lastgroup) for match in found)]
        starts = [0, *(match.end() for match in found)]
        ends = [*(match.start() for match in found), len(text)]
        parts = []
        for n, name in enumerate(names):
            part = text[starts[n] : ends[n]]
            if name:
                separator = getattr(self, name)
                part = part.removeprefix(separator[len(separator.rstrip()) :])
            if n + 1 < len(names):
                separator = getattr(self, names[n + 1])
                part = part.removesuffix(separator[: len(separator) - len(separator.lstrip())])
            parts.append((name, self.unescape(part)))
        return parts


def _overlap(marker: str, other: str) -> str:
    """Find the longest end of a marker with which another, or itself, begins; "" without one.

    With such an overlap a marker could begin in a part and end inside a real marker.
    """
    # A marker always begins with the whole of itself; that is no overlap.
    most = min(len(marker), len(other)) - (marker == other)
    ends = (marker[-length:] for length in range(most, 0, -1))
    return next((end for end in ends if other.startswith(end)), "")


#: `think` is the form that reasoning parsers of serving stacks know. `released` is the form of the
#: released data, character for character, spelling included: with it that data, and outputs of
#: models that were taught by it, can be parsed.
TRAJECTORY_TEMPLATES = {
    "think": TrajectoryTemplate(),
    "released": TrajectoryTemplate(
        start="<|Start of recursive criticism and improvement|>\n\n"
        "## Let's answer the question first:\n",
        critique="\n\n## Now, let's try to criticize this answer:\n",
        refinement="\n\n## Okey, let's improve the above answer based on the criticism:\n",
        end="\n\n## Okay, now it\u2019s almost done.\n\n"
        "<|End of recursive criticism and improvement|>\n\nFinal answer:\n\n",
    ),
}
#: The form without thinking (`plain`).
PLAIN = TrajectoryTemplate("", "", "", "")


def render_trajectory(trajectory: Trajectory, template: TrajectoryTemplate) -> str:
    """Render a whole loop as the text of one assistant turn. Raises ValueError for `plain`."""
    if template.plain:
        raise ValueError("a plain text holds no trajectory")
    pieces = [template.start, template.escape(trajectory.first)]
    for turn in trajectory.turns:
        pieces += [template.critique, template.escape(turn.critique)]
        pieces += [template.refinement, template.escape(turn.refinement)]
    if trajectory.closing is not None:
        pieces += [template.critique, template.escape(trajectory.closing)]
    return "".join([*pieces, template.end, template.escape(trajectory.answer)])


def parse_trajectory(text: str, template: TrajectoryTemplate) -> Trajectory:
    """Parse a text of `render_trajectory`. Raises TrajectoryError on any other form.

    A plain text is its own first and final answer.
    """
    if template.plain:
        return Trajectory(first=text, turns=(), closing=None, answer=text)
    (_, before), *parts = template.split(text)
    names = [name for name, _ in parts]
    texts = [part for _, part in parts]
    if before.strip() or names[:1] != ["start"]:
        raise TrajectoryError("does not begin with the start marker")
    if "end" not in names:
        raise TrajectoryError("has no end marker")
    loop = names[1:-1]
    expected = (["critique", "refinement"] * len(loop))[: len(loop)]
    if loop != expected or names[-1] != "end":
        raise TrajectoryError(f"markers in the wrong order: {', '.join(names)[:200]}")
    inner = texts[1:-1]
    turns = zip(inner[::2], inner[1::2], strict=False)
    return Trajectory(
        first=texts[0],
        turns=tuple(Turn(critique, refinement) for critique, refinement in turns),
        closing=inner[-1] if len(inner) % 2 else None,
        answer=texts[-1],
    )
