"""Let a model judge its own answers, and its own judgements (Meta-Rewarding).

Source: Wu et al. 2024 (arXiv 2407.19594). An answer's reward is the mean rating of several
critiques by the model that gave it. The model then rates those critiques; the best and the worst of
them teach it to judge. Ours: each critique is rated alone, where the paper compares two at a time.
"""

import asyncio
from dataclasses import dataclass, replace
from statistics import fmean

from avr.core.messages import Conversation, assistant, content_id, user
from avr.core.outputs import UNJUDGED, Judgement, Output, OutputSet, _most_varied
from avr.core.prompts import Templates, critique_context
from avr.core.ratings import is_critique, parse_rating
from avr.core.roles import Completion, Generate, TreeFault
from avr.core.sampling import sample

# Tried on Qwen2.5-Coder-1.5B: with this request, which asks for the rating first, 8 of 8 judgements
# were well-formed; with one that asked for the rating last, 3 of 8.
META_REQUEST = """\
Now judge your review above, not the answer. Begin with a line of this form, where N is a whole \
number from 1 (useless) to 10 (nothing left to improve) for the review:
Rating: [[N]]
Below it, explain that rating in two to five sentences: say whether each point of the review is \
true of the answer, what it missed, and whether its rating follows from what it says."""


@dataclass(frozen=True, slots=True)
class OwnJudge:
    """Set how a model judges itself.

    Each answer gets `num_judgements`. A judgement is itself judged in the words of `meta_request`.
    Each sampling takes at most `max_tries` requests.
    """

    num_judgements: int
    meta_request: str
    max_tries: int


async def judge_outputs(
    outputs: OutputSet, policy: Generate, templates: Templates, judge: OwnJudge
) -> OutputSet:
    """Judge every output; its reward is the mean rating of its judgements.

    The judgements of the output with the most varied ratings are judged in turn, because there the
    judge is least sure (as in the paper). An output that got no well-formed judgement, or is too
    long to be judged, joins the failures.
    """

    async def judged(output: Output) -> Output:
        try:
            judgements = await _judgements(outputs, output, policy, templates, judge)
        except TreeFault as error:
            return replace(output, answer="", failure=f"{UNJUDGED}{error}")
        if not judgements:
            return replace(output, answer="", failure=f"{UNJUDGED}no judgement had a rating")
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
    """Build the context in which the model rates a critique of its own."""
    head = critique_context(prompt, answer, templates)
    return (*head, assistant(critique), user(request))


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
    """Let the model rate each judgement of an output."""

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
