"""Pair whole outputs by preference: the best and worst of a prompt, and more on request."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from avr.core.outputs import Output, OutputSet
from avr.core.prompts import Templates, answer_context
from avr.rows import filters
from avr.rows.funnel import Funnel, Rule, unique
from avr.rows.row import PreferencePair

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Hold a possible pair: the output `rank` places from the best, the other from the worst."""

    item: OutputSet
    rank: int


def make_output_pairs(
    sets: Callable[[], Iterable[OutputSet]],
    templates: Templates,
    switches: frozenset[str],
    funnel: Funnel,
    min_margin: float,
    *,
    per_prompt: int = 1,
    max_pairs: int | None = None,
) -> Iterator[PreferencePair]:
    """Pair the best and worst whole output of each prompt, by the reward of the final answer.

    With `per_prompt` 2, pairs of the second best and the second worst follow when all prompts have
    had their first pair, and so on; a tie goes to the earlier output. `sets` is read once per
    round. The first `max_pairs` pairs that pass the rules are taken. The funnel counts
    `per_prompt` candidates of each prompt.

    Source: method, Stage II.4, for the first pair of a prompt; the others are ours.
    `answer_no_longer` is length control. For `min_margin` see `avr.rows.tree_pairs.make_pairs`.
    """
    of_chosen: list[Rule[_Candidate]] = _of_chosen(lambda c: c)
    optional: list[Rule[_Candidate]] = [
        Rule("answer_no_longer", lambda c: len(_best(c).answer) <= len(_worst(c).answer)),
        *of_chosen,
        Rule("unique", unique(lambda c: (c.item.prompt.query, _best(c).text, _worst(c).text))),
    ]
    rules: list[Rule[_Candidate]] = [
        Rule("two_outputs", lambda c: len(c.item.outputs) >= 2 * (c.rank + 1)),
        Rule("strictly_better", lambda c: _margin(c) > 0),
        Rule("min_margin", lambda c: _margin(c) > min_margin),
        Rule("different_text", lambda c: _best(c).answer.strip() != _worst(c).answer.strip()),
        *(rule for rule in optional if rule.name in switches),
    ]
    if max_pairs is not None:
        rules.append(Rule("max_pairs", lambda _: funnel.num_out < max_pairs))
    for rank in range(per_prompt):
        for item in sets():
            candidate = _Candidate(item, rank)
            if funnel.admit(candidate, item.id, rules):
                best, worst = _best(candidate), _worst(candidate)
                yield _pair("output", item, best, worst, _margin(candidate), templates)


def make_malformed_pairs(
    sets: Iterable[OutputSet],
    templates: Templates,
    switches: frozenset[str],
    funnel: Funnel,
    *,
    share: float,
    num_others: int,
) -> Iterator[PreferencePair]:
    """Pair the best output of a prompt with its first malformed one, up to a share of all pairs.

    Source: ours. DPO on well-formed outputs alone never teaches that an output without a final
    answer is worse than any output with one. These pairs are at most `share` of all pairs:
    themselves and the `num_others` that were made before. Rules that compare two answers do not
    apply, because a malformed output has no answer.
    """
    of_chosen: list[Rule[OutputSet]] = _of_chosen(lambda item: _Candidate(item, 0))
    rules: list[Rule[OutputSet]] = [
        Rule("malformed_output", lambda item: bool(item.outputs) and _malformed(item) is not None),
        *(rule for rule in of_chosen if rule.name in switches),
        Rule(
            "malformed_share",
            lambda _: funnel.num_out + 1 <= share * (num_others + funnel.num_out + 1),
        ),
    ]
    for item in sets:
        if funnel.admit(item, item.id, rules):
            worst = _malformed(item)
            assert worst is not None  # The first rule has checked it.
            yield _pair("malformed", item, _best(_Candidate(item, 0)), worst, 0.0, templates)


def _of_chosen(candidate: Callable[[T], _Candidate]) -> list[Rule[T]]:
    """List the rules that look at the chosen output alone."""
    return [
        Rule("beats_reference", lambda item: _beats_reference(candidate(item))),
        Rule("finished", lambda item: _best(candidate(item)).finish_reason != "length"),
        Rule("no_repeated_word", lambda i: filters.no_repeated_word(_best(candidate(i)).text)),
        Rule("no_loop", lambda item: filters.no_loop(_best(candidate(item)).text)),
    ]


def _best(candidate: _Candidate) -> Output:
    return sorted(candidate.item.outputs, key=_reward, reverse=True)[candidate.rank]


def _worst(candidate: _Candidate) -> Output:
    return sorted(candidate.item.outputs, key=_reward)[candidate.rank]


def _margin(candidate: _Candidate) -> float:
    return _reward(_best(candidate)) - _reward(_worst(candidate))


def _beats_reference(candidate: _Candidate) -> bool:
    reference = candidate.item.reference
    return reference is None or _reward(_best(candidate)) > reference


def _malformed(item: OutputSet) -> Output | None:
    """Find the first malformed output with some text; an empty turn is nothing to train on."""
    return next((o for o in item.failures if o.malformed and o.text.strip()), None)


def _pair(
    kind: str, item: OutputSet, best: Output, worst: Output, margin: float, templates: Templates
) -> PreferencePair:
    prompt, nodes = answer_context(item.prompt.query, templates), (item.id, best.id, worst.id)
    return PreferencePair.of(kind, prompt, best.text, worst.text, margin, *nodes)


def _reward(output: Output) -> float:
    if output.reward is None:
        raise ValueError(f"output {output.id} has no reward yet")
    return output.reward
