"""Preference pairs of whole outputs: best and worst of a prompt, and more of them where asked."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from avr.core import filters
from avr.core.funnel import Funnel, Rule, unique
from avr.core.messages import assistant, content_id
from avr.core.outputs import Output, OutputSet
from avr.core.pairs import PreferencePair
from avr.core.prompts import Templates, answer_context


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A pair to be: the output `rank` places from the best, and the one so far from the worst."""

    item: OutputSet
    rank: int

    @property
    def has_both(self) -> bool:
        return len(self.item.outputs) >= 2 * (self.rank + 1)

    @property
    def best(self) -> Output:
        return sorted(self.item.outputs, key=_reward, reverse=True)[self.rank]

    @property
    def worst(self) -> Output:
        return sorted(self.item.outputs, key=_reward)[self.rank]

    @property
    def margin(self) -> float:
        return _reward(self.best) - _reward(self.worst)

    @property
    def beats_reference(self) -> bool:
        return self.item.reference is None or _reward(self.best) > self.item.reference

    def pair(self, templates: Templates) -> PreferencePair:
        nodes = (self.item.id, self.best.id, self.worst.id)
        return PreferencePair(
            id=content_id("pair", "output", *nodes),
            kind="output",
            prompt=answer_context(self.item.prompt.query, templates),
            chosen=(assistant(self.best.text),),
            rejected=(assistant(self.worst.text),),
            margin=self.margin,
            node_ids=nodes,
        )


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
    """Best and worst whole output of each prompt, by the reward of the final answer.

    With `per_prompt` 2 the second best and the second worst come after those of all prompts, and
    so on; a tie goes to the earlier output. `sets` is read once for each. The first `max_pairs`
    that the rules let through are taken. The funnel counts `per_prompt` candidates of each prompt.

    Source: method, Stage II.4, for the first pair of a prompt; the others are ours.
    `answer_no_longer` is length control. For `min_margin` see `avr.core.pairs.make_pairs`.
    """
    optional: list[Rule[_Candidate]] = [
        Rule("beats_reference", lambda c: c.beats_reference),
        Rule("answer_no_longer", lambda c: len(c.best.answer) <= len(c.worst.answer)),
        Rule("finished", lambda c: c.best.finish_reason != "length"),
        Rule("no_repeated_word", lambda c: filters.no_repeated_word(c.best.text)),
        Rule("no_loop", lambda c: filters.no_loop(c.best.text)),
        Rule("unique", unique(lambda c: (c.item.prompt.query, c.best.text, c.worst.text))),
    ]
    rules: list[Rule[_Candidate]] = [
        Rule("two_outputs", lambda c: c.has_both),
        Rule("strictly_better", lambda c: c.margin > 0),
        Rule("min_margin", lambda c: c.margin > min_margin),
        Rule("different_text", lambda c: c.best.answer.strip() != c.worst.answer.strip()),
        *(rule for rule in optional if rule.name in switches),
    ]
    if max_pairs is not None:
        rules.append(Rule("max_pairs", lambda _: funnel.num_out < max_pairs))
    for rank in range(per_prompt):
        for item in sets():
            candidate = _Candidate(item, rank)
            if funnel.admit(candidate, item.id, rules):
                yield candidate.pair(templates)


def _reward(output: Output) -> float:
    if output.reward is None:
        raise ValueError(f"output {output.id} has no reward yet")
    return output.reward
