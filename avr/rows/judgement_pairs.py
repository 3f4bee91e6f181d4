"""Make preference pairs of a policy's own judgements (Meta-Rewarding)."""

from collections.abc import Iterable, Iterator, Sequence

from avr.core.outputs import Judgement, Output, OutputSet, _most_varied
from avr.core.prompts import Templates, critique_context
from avr.rows import filters
from avr.rows.funnel import Funnel, Rule, unique
from avr.rows.row import PreferencePair


def make_judgement_pairs(
    sets: Iterable[OutputSet], templates: Templates, funnel: Funnel
) -> Iterator[PreferencePair]:
    """Make one pair of critiques per prompt: the best and the worst by meta rating.

    Both are critiques of the answer with the most varied ratings.
    """
    rules: list[Rule[OutputSet]] = [
        Rule("two_rated_judgements", _has_two_rated),
        Rule("strictly_better", lambda item: _margin(item) > 0),
        Rule(
            "different_text",
            lambda item: len({judgement.text for judgement in _best_and_worst(item)}) == 2,
        ),
        Rule("finished", lambda item: all(n.finish_reason != "length" for n in _read(item))),
        Rule("no_loop", lambda item: all(filters.no_loop(n.text) for n in _read(item))),
        Rule(
            "unique",
            unique(lambda item: (item.prompt.query, *(j.text for j in _best_and_worst(item)))),
        ),
    ]
    for item in sets:
        if funnel.admit(item, item.id, rules):
            output = _most_varied(item)
            assert output is not None
            best, worst = _best_and_worst(item)
            prompt = critique_context(item.prompt.query, output.answer, templates)
            nodes = (item.id, output.id, best.id, worst.id)
            margin = float(_margin(item))
            yield PreferencePair.of("judgement", prompt, best.text, worst.text, margin, *nodes)


def _rated(output: Output) -> Sequence[tuple[int, Judgement]]:
    return [(j.meta_rating, j) for j in output.judgements if j.meta_rating is not None]


def _has_two_rated(item: OutputSet) -> bool:
    output = _most_varied(item)
    return output is not None and len(_rated(output)) > 1


def _best_and_worst(item: OutputSet) -> tuple[Judgement, Judgement]:
    output = _most_varied(item)
    assert output is not None
    rated = _rated(output)
    return max(rated, key=lambda each: each[0])[1], min(rated, key=lambda each: each[0])[1]


def _read(item: OutputSet) -> tuple[Output | Judgement, ...]:
    """Return the texts that a model reads or learns in the pair: the judged answer and chosen."""
    output = _most_varied(item)
    assert output is not None
    return output, _best_and_worst(item)[0]


def _margin(item: OutputSet) -> int:
    best, worst = _best_and_worst(item)
    assert best.meta_rating is not None and worst.meta_rating is not None
    return best.meta_rating - worst.meta_rating
