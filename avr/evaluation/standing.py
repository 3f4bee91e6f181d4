"""Compare the rows of a table with the baseline, prompt by prompt."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from avr.evaluation.alpaca import LcNoreg, lc_noreg, length_of
from avr.evaluation.logistic import SeparationError
from avr.evaluation.paired import Estimate, mean_of


@dataclass(frozen=True, slots=True)
class Answered:
    """Hold the final answer of one row to one prompt.

    `replication` is the run that it comes from, `prompt` the prompt's id, `reward` a raw logit,
    `quality` the oracle's (None without one). `num_tokens` counts all tokens generated for it:
    thinking, critiques, malformed texts, samples not taken. It `failed` if a round gave no
    refinement or an output had no final answer. `draft_quality` is the quality of the answer that
    this one was refined from (r0, or the draft inside a trajectory), None where there was none.
    """

    row: str
    prompt: str
    text: str
    reward: float
    quality: float | None
    num_tokens: int
    failed: bool
    draft_quality: float | None = None
    replication: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Return the key that answers are paired by."""
        return self.replication, self.prompt


@dataclass(frozen=True, slots=True)
class Standing:
    """Hold one row. Estimates are [mean, low, high], 95%, over prompts; rates are in percent.

    `num_answers` were compared, all replications together. Figures that need an oracle are None
    without one. `characters` is the mean over answers that are not empty. `lc_win_rate` is None
    where lengths alone tell wins from losses. `right_to_wrong` is the rate over the `num_right`
    answers with a right draft, `wrong_to_right` the rate over the `num_wrong` answers with a wrong
    draft; None where there are none. A failed output has no draft. `by_replication` holds the mean
    quality of each replication, because no interval here contains the differences between
    trainings.
    """

    row: str
    num_answers: int
    reward: Estimate
    reward_win_rate: Estimate
    quality: Estimate | None
    gain: Estimate | None
    win_rate: Estimate | None
    lc_win_rate: LcNoreg | None
    characters: float
    tokens: float
    failures: float
    right_to_wrong: float | None
    wrong_to_right: float | None
    num_right: int
    num_wrong: int
    by_replication: dict[str, float]


@dataclass(frozen=True, slots=True)
class Claim:
    """State that one row has less of something: `LOWER < HIGHER` or `... by characters`.

    It is about quality unless it says otherwise. By characters only prompts count that both rows
    have an answer to.
    """

    lower: str
    higher: str
    measure: str = "quality"

    @classmethod
    def parsed(cls, text: str) -> "Claim":
        """Parse a claim. Raises ValueError where the text is none."""
        rows, by, measure = text.partition(" by ")
        lower, _, higher = (part.strip() for part in rows.partition("<"))
        if not lower or not higher or "<" in higher:
            raise ValueError(f"{text!r} is not of the form 'ROW < ROW'")
        if by and measure.strip() not in MEASURES:
            raise ValueError(f"{text!r}: by {measure.strip()!r}; there are {', '.join(MEASURES)}")
        return cls(lower, higher, measure.strip() or "quality")

    def __str__(self) -> str:
        by = "" if self.measure == "quality" else f" by {self.measure}"
        return f"{self.lower} < {self.higher}{by}"


MEASURES = ("quality", "characters")


@dataclass(frozen=True, slots=True)
class Ordering:
    """Hold a claim, and the difference that was seen (higher - lower).

    The interval is over prompts, for the models that were trained. `by_replication` holds the mean
    difference of each replication.
    """

    claim: Claim
    difference: Estimate
    by_replication: dict[str, float]

    @property
    def verdict(self) -> str:
        """Return "holds" or "fails" if interval and all replications agree, else "undecided"."""
        if self.difference.low > 0 and min(self.by_replication.values()) > 0:
            return "holds"
        fails = self.difference.high < 0 and max(self.by_replication.values()) < 0
        return "fails" if fails else "undecided"


def standing(ours: Iterable[Answered], baseline: Iterable[Answered], right: float) -> Standing:
    """Compare a row's answers with the baseline's. Raises ValueError where no prompt has both.

    Intervals are clustered by prompt: the answers of several replications to one prompt count as
    one draw. An answer counts where the baseline has one in the same replication.
    """
    pairs = _paired(ours, baseline)
    if not pairs:
        raise ValueError("no prompt was answered by both the row and the baseline")
    qualities = [
        (a.prompt, a.quality, b.quality)
        for a, b in pairs
        if a.quality is not None and b.quality is not None
    ]
    judged = len(qualities) == len(pairs)
    wins = [_preferred(a.quality, b.quality, a, b) for a, b in pairs] if judged else []
    prompts = [a.prompt for a, _ in pairs]
    refined = [(a.quality, a.draft_quality) for a, _ in pairs]
    known = [
        (after, before) for after, before in refined if after is not None and before is not None
    ]
    were_right = [after >= right for after, before in known if before >= right]
    were_wrong = [after >= right for after, before in known if before < right]
    rewards = [_preferred(a.reward, b.reward, a, b) for a, b in pairs]
    return Standing(
        row=pairs[0][0].row,
        num_answers=len(pairs),
        reward=_clustered(prompts, [a.reward for a, _ in pairs]),
        reward_win_rate=_clustered(prompts, [100 * win for win in rewards]),
        quality=_clustered(prompts, [a for _, a, _ in qualities]) if judged else None,
        gain=_clustered(prompts, [a - b for _, a, b in qualities]) if judged else None,
        win_rate=_clustered(prompts, [100 * win for win in wins]) if judged else None,
        lc_win_rate=_length_controlled(pairs, wins) if judged else None,
        characters=fmean([len(a.text) for a, _ in pairs if a.text.strip()] or [0]),
        tokens=fmean(a.num_tokens for a, _ in pairs),
        failures=100 * fmean(a.failed for a, _ in pairs),
        right_to_wrong=100 * (1 - fmean(were_right)) if were_right else None,
        wrong_to_right=100 * fmean(were_wrong) if were_wrong else None,
        num_right=len(were_right),
        num_wrong=len(were_wrong),
        by_replication=_means(
            (a.replication for a, _ in pairs), [quality for _, quality, _ in qualities]
        )
        if judged
        else {},
    )


def ordering(claim: str, rows: Mapping[str, Sequence[Answered]]) -> Ordering:
    """Compare a claim with the answers; without an oracle quality is the reward.

    Raises ValueError for a text that is no claim (see `Claim`) and for an unknown row.
    """
    claimed = Claim.parsed(claim)
    for name in (claimed.lower, claimed.higher):
        if name not in rows:
            raise ValueError(f"ordering {claim!r}: no row {name!r}; there are {', '.join(rows)}")
    pairs = _paired(rows[claimed.higher], rows[claimed.lower])
    if claimed.measure == "characters":
        pairs = [(a, b) for a, b in pairs if a.text.strip() and b.text.strip()]
        differences = [float(len(a.text) - len(b.text)) for a, b in pairs]
    else:
        differences = [
            a.reward - b.reward if a.quality is None or b.quality is None else a.quality - b.quality
            for a, b in pairs
        ]
    return Ordering(
        claimed,
        _clustered([a.prompt for a, _ in pairs], differences),
        _means((a.replication for a, _ in pairs), differences),
    )


def by_row(answers: Iterable[Answered]) -> dict[str, list[Answered]]:
    """Group the answers by row, in the order in which the rows first occur."""
    rows: dict[str, list[Answered]] = defaultdict(list)
    for answer in answers:
        rows[answer.row].append(answer)
    return dict(rows)


def _paired(
    ours: Iterable[Answered], theirs: Iterable[Answered]
) -> list[tuple[Answered, Answered]]:
    there = {answer.place: answer for answer in theirs}
    return [(answer, there[answer.place]) for answer in ours if answer.place in there]


def _preferred(ours: float | None, theirs: float | None, a: Answered, b: Answered) -> float:
    """Return 1, 1/2 or 0. A missing answer loses, whatever a judge would say of an empty text."""
    said, they_said = bool(a.text.strip()), bool(b.text.strip())
    if not (said and they_said) or ours is None or theirs is None:
        return 0.5 + (said - they_said) / 2
    return 0.5 + ((ours > theirs) - (ours < theirs)) / 2


def _clustered(prompts: Sequence[str], values: Sequence[float]) -> Estimate:
    """Average the values of each prompt, then estimate the mean over prompts."""
    return mean_of(list(_means(prompts, values).values()))


def _means(keys: Iterable[str], values: Iterable[float]) -> dict[str, float]:
    """Average the values of each key."""
    of: dict[str, list[float]] = defaultdict(list)
    for key, value in zip(keys, values, strict=True):
        of[key].append(value)
    return {key: fmean(several) for key, several in of.items()}


def _length_controlled(
    pairs: Sequence[tuple[Answered, Answered]], wins: Sequence[float]
) -> LcNoreg | None:
    try:
        return lc_noreg(
            [1 + win for win in wins],
            [length_of(a.text) for a, _ in pairs],
            [length_of(b.text) for _, b in pairs],
            [a.prompt for a, _ in pairs],
        )
    except SeparationError:
        return None
