"""Measure texts of the models: form, checking, ranking, overlap of prompt sets.

Standard library only; the definitions are ours.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence

from avr.miniature.oracle import quality, true_critique
from avr.miniature.prompts import SETS, read_prompts, set_of
from avr.miniature.world import Critique, parse_answer, parse_critique, parse_prompt


def flag_rates(
    prompts: Sequence[str], answers: Sequence[str], critiques: Sequence[str]
) -> tuple[float, float]:
    """Return (share of faults flagged, share of good items flagged), each in [0, 1].

    A fault is an item that is not good, or words missing from a list. Where the answer or the
    critique cannot be parsed nothing is counted: `well_formed` counts these.
    """
    num_faults = num_flagged = num_good = num_alarms = 0
    for prompt, answer, text in zip(prompts, answers, critiques, strict=True):
        request = parse_prompt(prompt)
        parsed = parse_answer(request, answer) if request else None
        critique = parse_critique(request, text) if request else None
        if not (request and parsed and critique):
            continue
        truth = true_critique(request, parsed)
        for is_fault, is_flagged in zip(_faults(truth), _faults(critique), strict=False):
            num_faults += is_fault
            num_flagged += is_fault and is_flagged
            num_good += not is_fault
            num_alarms += is_flagged and not is_fault
    return num_flagged / max(1, num_faults), num_alarms / max(1, num_good)


def pairwise_accuracy(
    prompts: Sequence[str], answers: Sequence[Sequence[str]], rewards: Sequence[Sequence[float]]
) -> float:
    """Return the share of pairs of answers to one prompt that the rewards rank right.

    Only pairs of unequal quality count. `answers` and `rewards`: one sequence per source, aligned
    with `prompts`.
    """
    num_right = num_pairs = 0
    for place, prompt in enumerate(prompts):
        judged = [
            (quality(prompt, texts[place]), values[place])
            for texts, values in zip(answers, rewards, strict=True)
        ]
        for (left, reward), (right, rival) in itertools.combinations(judged, 2):
            num_pairs += left != right
            num_right += left != right and (left > right) == (reward > rival)
    return num_right / max(1, num_pairs)


def well_formed(prompts: Sequence[str], texts: Sequence[str], *, critique: bool = False) -> float:
    """Return the share of texts, in [0, 1], that parse as an answer or as a critique."""
    parse = parse_critique if critique else parse_answer
    requests = map(parse_prompt, prompts)
    return statistics.mean(
        request is not None and parse(request, text) is not None
        for request, text in zip(requests, texts, strict=True)
    )


def copies_answer(
    prompts: Sequence[str], answers: Sequence[str], critiques: Sequence[str]
) -> float:
    """Return the share of parsable critiques, in [0, 1], that repeat the answer's items exactly."""
    same = []
    for prompt, answer, text in zip(prompts, answers, critiques, strict=True):
        request = parse_prompt(prompt)
        parsed = parse_answer(request, answer) if request else None
        critique = parse_critique(request, text) if request else None
        if parsed and critique:
            same.append(parsed.lists == critique.lists)
    return statistics.mean(same) if same else 0.0


def num_shared_prompts() -> int:
    """Count shipped prompts whose request belongs to another set by key, or occurs twice."""
    requests = {name: [parse_prompt(prompt) for prompt in read_prompts(name)] for name in SETS}
    misplaced = sum(
        request is None or set_of(request) != SETS[name][0]
        for name, members in requests.items()
        for request in members
    )
    keys = [request.key for members in requests.values() for request in members if request]
    return misplaced + len(keys) - len(set(keys))


def _faults(critique: Critique) -> Iterator[bool]:
    """Say for each item, and then for each list's count, whether it is called a fault."""
    for row, missing in zip(critique.verdicts, critique.missing, strict=True):
        yield from (verdict != "good" for verdict in row)
        yield missing > 0
