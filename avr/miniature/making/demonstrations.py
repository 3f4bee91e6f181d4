"""Make demonstrations with chosen faults, on which models are trained before any refinement.

A `Profile` says how often answers, critiques and refinements go wrong. A demonstration is a
conversation of three exchanges, or of more rounds of checking and refining. Every turn says whether
a model should learn it or only read it. Standard library only; all rates are ours.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from avr.miniature.oracle import rating_of, true_critique
from avr.miniature.vocabulary import CATEGORIES, FILLERS
from avr.miniature.world import (
    CHECK_REQUEST,
    MAX_ITEMS,
    REFINE_REQUEST,
    Answer,
    Critique,
    Request,
    Slot,
    render_answer,
    render_critique,
    render_prompt,
)

_WORDS = tuple(word for words in CATEGORIES.values() for word in words)


@dataclass(frozen=True, slots=True)
class Turn:
    """Hold one message; `learn` is False for one that a model reads but must not imitate."""

    role: str
    text: str
    learn: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """Set the chances of faults per item (`miscount`: per list), in [0, 1].

    `believes` mixes in false beliefs.
    """

    believes: bool = False
    lure: float = 0.0
    slip: float = 0.0
    repeat: float = 0.0
    miscount: float = 0.0
    filler: float = 0.3
    miss: float = 0.0
    false_alarm: float = 0.0
    fix: float = 1.0
    corrupt: float = 0.0


#: The policy believes that some words belong elsewhere, is lured, repeats itself, and miscounts. It
#: misses most faults when it checks, and mends barely half of those that it has flagged.
POLICY = Profile(
    believes=True, lure=0.12, slip=0.02, repeat=0.08, miscount=0.18, filler=0.5,
    miss=0.60, false_alarm=0.12, fix=0.50, corrupt=0.07,
)  # fmt: skip
#: The corrector has no deliberate faults; it refines towards its own kind of answers.
CORRECTOR = Profile()


def _rotate_words(num_words: int, first: int, seed: str) -> dict[str, tuple[str, ...]]:
    """Choose for each category `num_words` words of another one; no word is used twice."""
    rng = random.Random(seed)
    names = list(CATEGORIES)
    rng.shuffle(names)
    donors = dict(zip(names, names[1:] + names[:1], strict=True))
    return {name: CATEGORIES[donors[name]][first : first + num_words] for name in CATEGORIES}


#: Words the policy believes to belong to a category, although they belong to another (3 of 11).
FALSE_BELIEFS = _rotate_words(3, 0, "beliefs")
#: Words that come to the policy's mind by association; it does not believe in them.
LURES = _rotate_words(2, 4, "lures")


def believed_words(category: str) -> tuple[str, ...]:
    """Return the policy's own list for a category: its words less misplaced ones, plus others'."""
    misplaced = {word for words in FALSE_BELIEFS.values() for word in words}
    kept = tuple(word for word in CATEGORIES[category] if word not in misplaced)
    return kept + FALSE_BELIEFS[category]


def draw_answer(request: Request, profile: Profile, rng: random.Random) -> Answer:
    """Draw an answer with the profile's faults."""
    lists = []
    for slot in request.slots:
        length = slot.count
        if rng.random() < profile.miscount:
            length = rng.choice((max(1, length - 1), max(1, length - 1), length + 1, length + 2))
        words: list[str] = []
        while len(words) < min(length, MAX_ITEMS):
            words.append(_draw_word(slot, words, profile, rng))
        lists.append(tuple(words))
    return Answer(tuple(lists), draw_filler(profile, rng))


def draw_fault(
    request: Request, answer: Answer, kind: str, rng: random.Random
) -> tuple[Answer, tuple[int, int]]:
    """Make one word of a faultless answer "repeated" or "wrong"; return it and (list, place)."""
    row = rng.randrange(len(answer.lists))
    words = list(answer.lists[row])
    place = rng.randrange(1, len(words))
    if kind == "repeated":
        words[place] = rng.choice(words[:place])
    else:
        others = CATEGORIES.keys() - {slot.category for slot in request.slots}
        words[place] = rng.choice(CATEGORIES[rng.choice(sorted(others))])
    lists = (*answer.lists[:row], tuple(words), *answer.lists[row + 1 :])
    return replace(answer, lists=lists), (row, place)


def draw_filler(profile: Profile, rng: random.Random) -> str:
    """Draw no, one or two filler sentences."""
    wanted = sum(rng.random() < profile.filler for _ in range(2))
    return " ".join(rng.sample(FILLERS, wanted))


def draw_critique(
    request: Request, answer: Answer, profile: Profile, rng: random.Random
) -> Critique:
    """Draw the true critique, spoilt by the profile's misses and false alarms."""
    truth = true_critique(request, answer)
    verdicts = tuple(
        tuple(_spoil(verdict, profile, rng) for verdict in row) for row in truth.verdicts
    )
    missing = tuple(0 if rng.random() < profile.miss else number for number in truth.missing)
    good = sum(row.count("good") for row in verdicts)
    total = sum(len(row) + gap for row, gap in zip(verdicts, missing, strict=True))
    rating = truth.rating if verdicts == truth.verdicts else rating_of(good / total)
    return replace(truth, verdicts=verdicts, missing=missing, rating=rating)


def draw_refinement(
    request: Request, critique: Critique, profile: Profile, rng: random.Random
) -> Answer:
    """Draw a refinement by the critique, within the profile.

    It keeps the words that the critique calls good, and replaces, drops and adds the others.
    """
    lists = []
    rows = zip(request.slots, critique.lists, critique.verdicts, critique.missing, strict=True)
    for slot, words, verdicts, missing in rows:
        kept = [
            _keep(word, verdict, profile, rng)
            for word, verdict in zip(words, verdicts, strict=True)
            if verdict != "extra" or rng.random() >= profile.fix
        ]
        kept += [None] * (missing if rng.random() < profile.fix else 0)
        used = [word for word in kept if word]
        words_now = []
        for word in kept[:MAX_ITEMS]:
            words_now.append(word or _draw_word(slot, used, profile, rng))
            used.append(words_now[-1])
        lists.append(tuple(words_now))
    return Answer(tuple(lists), draw_filler(profile, rng))


def converse(
    request: Request,
    first: Answer,
    profile: Profile,
    rng: random.Random,
    *,
    learn_answer: bool,
    faults: Iterable[Profile] = (),
) -> list[Turn]:
    """Write answer, critique and refinement, then one more round for each of `faults`.

    A further round first spoils the refinement with the next profile of `faults` (to be read, not
    learned), so that there is something to find in it.
    """
    turns = [Turn("user", render_prompt(request))]
    turns.append(Turn("assistant", render_answer(request, first), learn_answer))
    answer = first
    for spoiler in [*faults, None]:
        critique = draw_critique(request, answer, profile, rng)
        refiner = profile if spoiler is None else spoiler
        answer = draw_refinement(request, critique, refiner, rng)
        turns += [
            Turn("user", CHECK_REQUEST),
            Turn("assistant", render_critique(request, critique), True),
            Turn("user", REFINE_REQUEST),
            Turn("assistant", render_answer(request, answer), spoiler is None),
        ]
    return turns


def policy_demonstration(request: Request, rng: random.Random) -> list[Turn]:
    """Demonstrate the policy's own kind of answers, critiques and refinements, to tune it on."""
    return converse(request, draw_answer(request, POLICY, rng), POLICY, rng, learn_answer=True)


def corrector_demonstration(
    request: Request, rng: random.Random, repeats: float = 0.0
) -> list[Turn]:
    """Demonstrate faultless corrections of faults of many kinds and rates, for the corrector."""
    profile = draw_fault_profile(rng, repeats)
    clean = profile == CORRECTOR
    rounds = rng.choice((0, 0, 0, 0, 0, 1, 2))
    return converse(
        request,
        draw_answer(request, profile, rng),
        CORRECTOR,
        rng,
        learn_answer=clean,
        faults=[draw_fault_profile(rng, repeats) for _ in range(rounds)],
    )


def draw_fault_profile(rng: random.Random, repeats: float = 0.0) -> Profile:
    """Draw a fault profile, from faultless to mostly wrong; one in six is the policy's own.

    `repeats` is the chance of a profile whose one fault is repetition, the slowest to be learned.
    """
    if rng.random() < repeats:
        return Profile(repeat=rng.choice((0.2, 0.4)), slip=0.05)
    if rng.random() < 1 / 6:
        return POLICY
    rate = rng.choice((0.0, 0.05, 0.15, 0.3, 0.6))
    if rate == 0.0:
        return CORRECTOR
    kinds = [rate * rng.random() for _ in range(4)]
    return Profile(
        believes=rng.random() < 0.3, slip=kinds[0], lure=kinds[1] / 2, repeat=kinds[2],
        miscount=kinds[3], fix=0.8, corrupt=rate / 2,
    )  # fmt: skip


def _draw_word(slot: Slot, used: list[str], profile: Profile, rng: random.Random) -> str:
    """Draw one word for a list; `used` are the words it already holds."""
    if used and rng.random() < profile.repeat:
        return rng.choice(used)
    chance = rng.random()
    if chance < profile.lure:
        pool = LURES[slot.category]
    elif chance < profile.lure + profile.slip:
        pool = _WORDS
    else:
        pool = believed_words(slot.category) if profile.believes else CATEGORIES[slot.category]
    return rng.choice([word for word in pool if word not in used] or list(pool))


def _spoil(verdict: str, profile: Profile, rng: random.Random) -> str:
    if verdict == "good":
        return "wrong" if rng.random() < profile.false_alarm else verdict
    return "good" if rng.random() < profile.miss else verdict


def _keep(word: str, verdict: str, profile: Profile, rng: random.Random) -> str | None:
    """Return the word where it stays, None where a new one is to be drawn."""
    flagged = verdict in ("wrong", "repeated")
    return None if rng.random() < (profile.fix if flagged else profile.corrupt) else word
