"""Check the health of a growth's first trees: counts show whether it is worth going on.

At first contact with real models, 54 of 62 critiques were the example copied out of the prompt,
and 113 of 124 refinements were a review instead of code. Yet the table said "improved 84.4%":
rewards alone do not show such faults. Checks and thresholds are ours.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from avr.core.forms import forms_of, gives_away
from avr.core.growth import Shape, is_right, unseen_of
from avr.core.prompts import Templates
from avr.core.ratings import MIN_WORDS, critique_content, parse_rating, words_of
from avr.core.tree import Critique, Level, RefinementTree, Response

NUM_EXAMPLES = 3
_EXAMPLE_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold a check's result: `num_bad` of `num_all` items, and the first few bad ones as text."""

    name: str
    num_bad: int
    num_all: int
    examples: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Return the share of bad items; 0 where nothing was counted."""
        return self.num_bad / self.num_all if self.num_all else 0.0


#: Name -> (a description of the bad items, advice where there are too many of them).
CHECKS: Mapping[str, tuple[str, str]] = {
    "barren": (
        "trees have no refinement (quarantined, or no critique was well-formed)",
        "read the reasons; see whether contexts fit and templates.critique_request is understood",
    ),
    "malformed": (
        "samples were thrown away and asked for again: critiques without a rating or text, empty"
        " refinements",
        "see the examples: make templates.critique_request ask for sentences and then a rating,"
        " without an example that can be copied, or take a larger corrector; where they are empty,"
        " see whether templates.refine_request is understood",
    ),
    "copied": (
        "critiques only repeat words of templates.critique_request",
        "take the sentence that is repeated out of templates.critique_request",
    ),
    "alike": (
        "critiques say the same in the same words",
        "make templates.critique_request ask for what is wrong where, or take a larger corrector",
    ),
    "no_answer": (
        "refinements are a review or words of the request, not an answer",
        "make templates.refine_request ask for the answer alone",
    ),
    "same_rating": (
        "ratings are one and the same number",
        "they tell nothing apart: ask for no rating (templates.rated=false, and no word of it in"
        " templates.critique_request), or take a larger corrector",
    ),
    "gives_away": (
        "critiques or refinements speak of the solution or test that only the corrector saw",
        "make templates.reference_hint or templates.feedback_hint ask not to mention it",
    ),
    "unchanged": (
        "refinements are the answer that they refine, word for word (right answers not counted)",
        "see whether critiques find a fault; make templates.refine_request ask for a correction",
    ),
    "twins": (
        "refinements are the same as another one of their critique",
        "raise the corrector's sampling.temperature, or set tree.num_refinements=1",
    ),
    "cut_off": (
        "texts were cut off at their token limit",
        "raise sampling.max_tokens of the role, or make the requests ask for less",
    ),
    "lost_form": (
        "refinements lack a form that the answer they refine had",
        "make templates.refine_request ask for the same form as before, in full",
    ),
}


def examine(
    trees: Iterable[RefinementTree], templates: Templates, shape: Shape
) -> tuple[Finding, ...]:
    """Run all checks on all trees, quarantined ones included.

    `shape` is the one that they are grown under: an answer that its judge `truth` calls right may
    stay as it is, and what its corrector `sees` may not be quoted. Returns one finding per check,
    in the order of `CHECKS`.
    """
    counts = {name: _Count() for name in CHECKS}
    said: Counter[str] = Counter()
    rated: Counter[str] = Counter()
    for tree in trees:
        # An answer that was right at once, and is not among the `criticised_share`, is no failure.
        if not tree.levels and not tree.quarantined:
            continue
        refined = any(c.refinements for level in tree.levels for c in level.critiques)
        counts["barren"].add(not refined, tree.quarantined or _rejected(tree) or "no refinement")
        for level in tree.levels:
            rated.update(str(c.rating) for c in level.critiques if c.rating is not None)
            counts["malformed"].add_many(
                level.num_rejected, len(level.critiques), level.rejected_example
            )
            _examine_critiques(level, templates, counts, said)
            _examine_lengths(tree, level, counts)
            _examine_refinements(level, _answer_of(tree, level), templates, counts, shape.truth)
            unseen = unseen_of(tree, shape)
            for critique in level.critiques:
                for text in (critique.text, *(r.text for r in critique.refinements)):
                    counts["gives_away"].add(gives_away(text, unseen), text)
    counts["alike"] = _alike(said)
    counts["same_rating"] = _alike(rated)
    return tuple(count.finding(name) for name, count in counts.items())


def says_something(finding: Finding, num_trees: int) -> bool:
    """Tell whether a finding counted enough: half as many items as trees were asked for, or more.

    If it had to count all, one quarantined tree, or one answer without a code block, would silence
    a check that found each of the other seven bad.
    """
    return finding.num_all > 0 and 2 * finding.num_all >= num_trees


def ailing(
    findings: Sequence[Finding], most: Mapping[str, float], num_trees: int
) -> tuple[Finding, ...]:
    """Pick the findings that counted enough and have a share of bad items above `most[name]`.

    Raises KeyError for a name without a threshold.
    """
    return tuple(f for f in findings if says_something(f, num_trees) and f.share > most[f.name])


def describe(finding: Finding, most: float) -> str:
    """Describe a finding in a few lines: its counts, the threshold, examples and advice."""
    what, advice = CHECKS[finding.name]
    examples = "".join(f"\n    for example: {example}" for example in finding.examples)
    return (
        f"{finding.name}: {finding.num_bad} of {finding.num_all} {what}: {finding.share:.0%},"
        f" at most {most:.0%} may.{examples}\n    what to do: {advice}"
    )


class _Count:
    """Keep the running counts and the first examples of one check."""

    def __init__(self) -> None:
        self._bad = self._all = 0
        self._examples: list[str] = []

    def add(self, bad: bool, example: str) -> None:
        self.add_many(int(bad), int(not bad), example)

    def add_many(self, num_bad: int, num_good: int, example: str) -> None:
        self._bad += num_bad
        self._all += num_bad + num_good
        if num_bad and len(self._examples) < NUM_EXAMPLES:
            self._examples.append(_shortened(example))

    def finding(self, name: str) -> Finding:
        return Finding(name, self._bad, self._all, tuple(self._examples))


def _examine_critiques(
    level: Level, templates: Templates, counts: Mapping[str, _Count], said: Counter[str]
) -> None:
    request = _flat(templates.critique_request)
    for critique in level.critiques:
        content = critique_content(critique.text)
        counts["copied"].add(_within(_flat(content), request), critique.text)
        said[_flat(content)] += 1


def _examine_refinements(
    level: Level,
    answer: Response | None,
    templates: Templates,
    counts: Mapping[str, _Count],
    truth: str,
) -> None:
    if answer is None:
        return
    forms, words = forms_of(answer.text), _flat(answer.text)
    for critique in level.critiques:
        texts = Counter(_flat(refinement.text) for refinement in critique.refinements)
        if len(critique.refinements) > 1:
            counts["twins"].add_many(texts.total() - len(texts), len(texts), critique.text)
    for critique, refinement in _refinements(level):
        if not is_right(answer, truth):
            counts["unchanged"].add(_flat(refinement.text) == words, refinement.text)
        counts["no_answer"].add(
            _is_no_answer(refinement.text, answer.text, critique.text, templates), refinement.text
        )
        if forms:
            lost = sorted(forms - forms_of(refinement.text))
            counts["lost_form"].add(bool(lost), f"no {', '.join(lost)} in: {refinement.text}")


def _examine_lengths(tree: RefinementTree, level: Level, counts: Mapping[str, _Count]) -> None:
    first = [tree.first] if tree.response is not None and level.of == tree.first.id else []
    texts = [(answer.text, answer.finish_reason) for answer in first]
    texts += [(critique.text, critique.finish_reason) for critique in level.critiques]
    texts += [(r.text, r.finish_reason) for _, r in _refinements(level)]
    for text, finish_reason in texts:
        counts["cut_off"].add(finish_reason == "length", text)


def _is_no_answer(text: str, answer: str, critique: str, templates: Templates) -> bool:
    """Tell whether a refinement is no answer.

    It is none if it gives a rating where the answer gave none, or if it repeats the critique or a
    request.
    """
    if _rates(text) and not _rates(answer):
        return True
    words = _flat(text)
    # The unchanged answer is an answer, even where it says the same as the critique or a request.
    if words == _flat(answer):
        return False
    asked = (templates.critique_request, templates.refine_request)
    return words == _flat(critique) or any(_within(words, _flat(each)) for each in asked)


def _alike(said: Counter[str]) -> _Count:
    """Count the critiques that share the most frequent text, if at least two of them do."""
    count = _Count()
    (text, most) = said.most_common(1)[0] if said else ("", 0)
    same = most if most > 1 else 0
    count.add_many(same, said.total() - same, text)
    return count


def _refinements(level: Level) -> Iterator[tuple[Critique, Response]]:
    for critique in level.critiques:
        for refinement in critique.refinements:
            yield critique, refinement


def _answer_of(tree: RefinementTree, level: Level) -> Response | None:
    return next((r for r in tree.responses() if r.id == level.of), None)


def _rejected(tree: RefinementTree) -> str:
    """Return the reason why a tree has no refinement, or "" where its levels give none."""
    reasons = (level.unscored_reason or level.rejected_example for level in tree.levels)
    return next(filter(None, reasons), "")


def _rates(text: str) -> bool:
    """Tell whether a text has a rating that is marked as one; "1/2" alone may be an answer."""
    return parse_rating(text) is not None and _RATING.search(text) is not None


def _flat(text: str) -> str:
    return " ".join(words_of(text))


def _within(words: str, request: str) -> bool:
    """Tell whether a request holds these words. Fewer than MIN_WORDS ("Yes.", "2") never count."""
    return len(words.split()) >= MIN_WORDS and f" {words} " in f" {request} "


def _shortened(text: str) -> str:
    """Shorten a text to one line; keep the beginning of a long one."""
    line = " / ".join(filter(None, map(str.strip, islice(text.splitlines(), 40))))
    return line if len(line) <= _EXAMPLE_CHARACTERS else f"{line[:_EXAMPLE_CHARACTERS]}..."


_RATING = re.compile(r"\[\[|\b(?:rat(?:e|ed|ing)|score)\b", re.IGNORECASE)
