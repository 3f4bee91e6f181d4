"""A model as the judge of its own answers, and of its own judgements (Meta-Rewarding).

Source: Wu et al. 2024 (arXiv 2407.19594). An answer's reward is the mean rating of several
critiques by the model that gave it. The model then rates those critiques; the best and the worst of
them teach it to judge. Ours: a critique is rated by itself, where the paper compares two at a time.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pvariance

from avr.core import filters
from avr.core.funnel import Funnel, Rule, unique
from avr.core.messages import Conversation, assistant, content_id, user
from avr.core.outputs import UNJUDGED, Judgement, Output, OutputSet
from avr.core.pairs import PreferencePair
from avr.core.prompts import Templates, critique_context
from avr.core.ratings import is_critique, parse_rating
from avr.core.roles import Completion, Generate, TreeFault
from avr.core.sampling import sample

# Tried on Qwen2.5-Coder-1.5B beside one that asked for the rating behind: 8 of 8 judgements were
# well-formed, there 3 of 8.
META_REQUEST = """\
Now judge your review above, not the answer. Begin with a line of this form, where N is a whole \
number from 1 (useless) to 10 (nothing left to improve) for the review:
Rating: [[N]]
Below it, explain that rating in two to five sentences: say whether each point of the review is \
true of the answer, what it missed, and whether its rating follows from what it says."""


@dataclass(frozen=True, slots=True)
class OwnJudge:
    """How often an answer is judged, in what words a judgement is, and the tries for each."""

    num_judgements: int
    meta_request: str
    max_tries: int


async def judge_outputs(
    outputs: OutputSet, policy: Generate, templates: Templates, judge: OwnJudge
) -> OutputSet:
    """Give every output its judgements and their mean rating as its reward.

    The judgements of the output whose ratings vary most are judged in turn: there the judge is
    least sure (so in the paper). An output that got no well-formed judgement, or is too long to be
    judged, joins the failures.
    """

    async def judged(output: Output) -> Output:
        try:
            judgements = await _judgements(outputs, output, policy, templates, judge)
        except TreeFault as error:
            return replace(output, answer="", failure=f"{UNJUDGED}{error}")
        if not judgements:
            return replace(output, answer="", failure=f"{UNJUDGED}no rating came")
        reward = fmean(judgement.rating for judgement in judgements)
        return replace(output, judgements=judgements, reward=reward)

    there = await asyncio.gather(*map(judged, outputs.outputs))
    failed = [output for output in there if output.failure]
    outputs = replace(
        outputs,
        outputs=tuple(output for output in there if not output.failure),
        failures=(*outputs.failures, *failed),
        num_missing=outputs.num_missing + len(failed),
    )
    torn = _most_varied(outputs)
    if torn is None:
        return outputs
    rated = await _meta_judged(outputs, torn, policy, templates, judge)
    return replace(outputs, outputs=tuple(rated if o is torn else o for o in outputs.outputs))


def meta_context(
    prompt: Conversation, answer: str, critique: str, templates: Templates, request: str
) -> Conversation:
    """What the model sees before it rates a critique of its own."""
    head = critique_context(prompt, answer, templates)
    return (*head, assistant(critique), user(request))


def make_judgement_pairs(
    sets: Iterable[OutputSet], templates: Templates, funnel: Funnel
) -> Iterator[PreferencePair]:
    """One pair of critiques a prompt: best and worst by meta rating, of the answer whose ratings
    vary most.
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
            nodes = (item.id, output.id, best.id, worst.id)
            yield PreferencePair(
                id=content_id("pair", "judgement", *nodes),
                kind="judgement",
                prompt=critique_context(item.prompt.query, output.answer, templates),
                chosen=(assistant(best.text),),
                rejected=(assistant(worst.text),),
                margin=float(_margin(item)),
                node_ids=nodes,
            )


async def _judgements(
    outputs: OutputSet, output: Output, policy: Generate, templates: Templates, judge: OwnJudge
) -> tuple[Judgement, ...]:
    query = outputs.prompt.query
    critiques = await sample(
        policy,
        critique_context(query, output.answer, templates),
        judge.num_judgements,
        judge.max_tries,
        content_id("judgement", output.id, policy.identity),
        _rates,
    )

    return tuple(
        Judgement(node, c.text, _rating(c), c.finish_reason, c.num_tokens)
        for node, c in critiques.kept
    )


async def _meta_judged(
    outputs: OutputSet, output: Output, policy: Generate, templates: Templates, judge: OwnJudge
) -> Output:
    """The output with its judgements judged in turn."""

    async def rated(judgement: Judgement) -> Judgement:
        context = meta_context(
            outputs.prompt.query, output.answer, judgement.text, templates, judge.meta_request
        )
        parent = content_id("meta", judgement.id)
        try:
            metas = await sample(policy, context, 1, judge.max_tries, parent, _rates)
        except TreeFault:  # too long to be judged in turn; the judgement itself stands
            return judgement
        spent = sum(c.num_tokens for c in (*(c for _, c in metas.kept), *metas.rejected))
        return replace(
            judgement,
            num_tokens=judgement.num_tokens + spent,
            meta_rating=_rating(metas.kept[0][1]) if metas.kept else None,
        )

    judgements = await asyncio.gather(*map(rated, output.judgements))
    return replace(output, judgements=tuple(judgements))


def _rates(completion: Completion) -> bool:
    return is_critique(completion.text)


def _rating(completion: Completion) -> int:
    rating = parse_rating(completion.text)
    assert rating is not None
    return rating


def _rated(output: Output) -> Sequence[tuple[int, Judgement]]:
    return [(j.meta_rating, j) for j in output.judgements if j.meta_rating is not None]


def _most_varied(item: OutputSet) -> Output | None:
    """The earliest wins a tie; None where no output has two judgements."""
    several = [output for output in item.outputs if len(output.judgements) > 1]
    return max(several, key=lambda o: pvariance([j.rating for j in o.judgements]), default=None)


def _has_two_rated(item: OutputSet) -> bool:
    output = _most_varied(item)
    return output is not None and len(_rated(output)) > 1


def _best_and_worst(item: OutputSet) -> tuple[Judgement, Judgement]:
    output = _most_varied(item)
    assert output is not None
    rated = _rated(output)
    return max(rated, key=lambda each: each[0])[1], min(rated, key=lambda each: each[0])[1]


def _read(item: OutputSet) -> tuple[Output | Judgement, ...]:
    """What a model reads or learns in the pair: the answer that is judged, and chosen."""
    output = _most_varied(item)
    assert output is not None
    return output, _best_and_worst(item)[0]


def _margin(item: OutputSet) -> int:
    best, worst = _best_and_worst(item)
    assert best.meta_rating is not None and worst.meta_rating is not None
    return best.meta_rating - worst.meta_rating
