"""Select the policy's own right answers, as rejection-sampling fine-tuning (RFT) trains on them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from avr.core.messages import Conversation, assistant, content_id
from avr.core.outputs import Output, OutputSet
from avr.core.prompts import Templates, answer_context
from avr.rows import filters
from avr.rows.funnel import Funnel, Rule, unique
from avr.rows.row import RsftRow


@dataclass(frozen=True, slots=True)
class _Sampled:
    """Hold one output with the set that it is of."""

    item: OutputSet
    output: Output


def select_verified(
    sets: Iterable[OutputSet],
    templates: Templates,
    switches: frozenset[str],
    funnel: Funnel,
    *,
    truth: str,
) -> Iterator[RsftRow]:
    """Make one row of each output that the judge `truth` calls right, in the order of the sets.

    Source: Yuan et al. 2023 (arXiv 2308.01825). The funnel counts outputs.
    """
    optional: list[Rule[_Sampled]] = [
        Rule("finished", lambda s: s.output.finish_reason != "length"),
        Rule("no_repeated_word", lambda s: filters.no_repeated_word(s.output.answer)),
        Rule("no_loop", lambda s: filters.no_loop(s.output.answer)),
        Rule("unique", unique(lambda s: _messages(s, templates))),
    ]
    rules = [
        Rule("right", partial(_is_right, truth)),
        *(rule for rule in optional if rule.name in switches),
    ]
    for item in sets:
        for output in item.outputs:
            sampled = _Sampled(item, output)
            if funnel.admit(sampled, output.id, rules):
                nodes = (item.id, output.id)
                yield RsftRow(
                    content_id("rft", *nodes), _messages(sampled, templates), nodes, gain=0.0
                )


def _is_right(truth: str, sampled: _Sampled) -> bool:
    given = sampled.output.verdicts
    return any(verdict.by == truth and verdict.reward >= 1 for verdict in given)


def _messages(sampled: _Sampled, templates: Templates) -> Conversation:
    query = answer_context(sampled.item.prompt.query, templates)
    return (*query, assistant(sampled.output.answer))
