"""Grow a refinement tree with three functions: `respond`, `correct` and `score`.

Each takes a tree and one role, or what rewards answers. Stage I runs each once, as streaming
operators; Stage II repeats the last two (`search`). A node's id comes from its place in the tree
(parent, model, branch), not from the sampled text: growing the same tree again gives the same ids.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from avr.core.messages import Conversation, content_id, share_of
from avr.core.prompts import (
    Context,
    History,
    Sees,
    Templates,
    answer_context,
    critique_context,
    hint_of,
    refine_context,
)
from avr.core.ratings import is_critique, parse_rating
from avr.core.reward import Rewarding
from avr.core.roles import Completion, ContextTooLong, Generate, TreeFault
from avr.core.sampling import Samples, sample
from avr.core.tree import Critique, Level, RefinementTree, Response, Verdict, reward_of


@dataclass(frozen=True, slots=True)
class Shape:
    """Set the width of a level, and how often a malformed sample is asked for again.

    `max_tries` (5, released code) counts the first attempt. `follow` says which response a further
    level criticises: the one with the best reward (search) or the last (self-refinement r_k).
    `context` says which texts a further level sees: with `answer` (released) only the response
    that it criticises, with `history` (paper) also the turns that led to it.

    `sees` (ours) is what the corrector is shown of the truth, while trees are grown and in no row:
    nothing, the verifier's `feedback` on the response, or the `reference` solution. `truth` names
    the judge that knows it: its reward 1 means right. Of the responses that are right the
    `criticised_share` is criticised all the same; a level below the others could gain nothing.
    """

    num_critiques: int = 2
    num_refinements: int = 2
    max_tries: int = 5
    follow: Literal["best", "last"] = "best"
    context: Context = "answer"
    sees: Sees = "nothing"
    truth: str = ""
    criticised_share: float = 1.0

    @property
    def needs_verdicts(self) -> bool:
        """Say whether a response must be judged before it is criticised."""
        return self.sees == "feedback" or self.criticised_share < 1

    def __post_init__(self) -> None:
        for name in ("num_critiques", "num_refinements", "max_tries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


async def respond(
    tree: RefinementTree, policy: Generate, templates: Templates, max_tries: int
) -> RefinementTree:
    """Sample the first answer y0 from the policy. A tree that has one is returned unchanged.

    Raises TreeFault when every one of `max_tries` samples is empty.
    """
    if tree.response is not None:
        return tree
    parent = content_id("response", tree.prompt.id, policy.identity)
    context = answer_context(tree.prompt.query, templates)
    samples = await sample(policy, context, 1, max_tries, parent, _says_something)
    if not samples.kept:
        raise TreeFault(f"the policy gave an empty answer, {max_tries} times")
    ((node, completion),) = samples.kept
    return replace(tree, response=_response(node, completion))


def take_answer(tree: RefinementTree) -> RefinementTree:
    """Take y0 from the input row. Raises ValueError where the row has no answer."""
    text = tree.prompt.answer
    if not text:
        raise ValueError(f"{tree.prompt.source}: the row has no answer to take y0 from")
    node = content_id("response", tree.prompt.id, "input", text)
    return replace(tree, response=Response(node, text, "input", 0))


async def correct(
    tree: RefinementTree, corrector: Generate, templates: Templates, shape: Shape
) -> RefinementTree:
    """Add a level: critiques of the current response, and refinements of each critique.

    A tree whose last level has no refinement has ended and is returned unchanged, as is one whose
    current response is right and not among the `criticised_share`.
    """
    if tree.levels and not any(c.refinements for c in tree.levels[-1].critiques):
        return tree
    current = _current(tree, shape)
    if is_right(current, shape.truth) and share_of(current.id) >= shape.criticised_share:
        return tree
    query = tree.prompt.query
    history = _history(tree, current) if shape.context == "history" else ()
    hint = hint_of(shape.sees, templates, tree.prompt.reference, _feedback(current, shape.truth))
    critiques = await sample(
        corrector,
        critique_context(query, current.text, templates, history, hint),
        shape.num_critiques,
        shape.max_tries,
        content_id("critique", current.id, corrector.identity),
        lambda completion: is_critique(completion.text, templates.rated),
    )
    refined = await asyncio.gather(
        *(
            _refine(
                refine_context(query, current.text, completion.text, templates, history, hint),
                completion,
                node,
                corrector,
                shape,
            )
            for node, completion in critiques.kept
        )
    )
    samples = [critiques, *(more for _, more in refined)]
    level = Level(
        of=current.id,
        critiques=tuple(critique for critique, _ in refined),
        num_rejected=sum(len(s.rejected) for s in samples),
        num_dropped=critiques.num_missing,
        num_dropped_refinements=sum(more.num_missing for _, more in refined),
        rejected_example=next((c.text for s in samples for c in s.rejected), ""),
        num_rejected_tokens=sum(c.num_tokens for s in samples for c in s.rejected),
    )
    return replace(tree, levels=(*tree.levels, level))


async def self_refine(
    tree: RefinementTree, policy: Generate, templates: Templates, shape: Shape, rounds: int
) -> RefinementTree:
    """Sample an answer, then refine it `rounds` times, one level per round (method, Stage I.5).

    A round whose context gets too long fails and ends the tree; the answers so far stand.
    """
    tree = await respond(tree, policy, templates, shape.max_tries)
    for _ in range(rounds):
        try:
            tree = await correct(tree, policy, templates, shape)
        except ContextTooLong:
            break
    return tree


async def score(tree: RefinementTree, rewarding: Rewarding) -> RefinementTree:
    """Have every response judged that one of the judges has given no verdict yet.

    A response has its reward when all members of the combination have given theirs. A refinement
    that a judge fails on is left out, as in the released code, and counted in its level. Raises
    TreeFault where one fails on y0: nothing could be compared with y0.
    """
    waiting = [r for r in tree.responses() if r.reward is None and rewarding.waits_for(r.verdicts)]
    judged = await asyncio.gather(*(_judge(tree, r, rewarding) for r in waiting))
    verdicts = dict(zip((r.id for r in waiting), judged, strict=True))
    of_first = verdicts.get(tree.first.id)
    if isinstance(of_first, TreeFault):
        raise of_first
    return replace(
        tree,
        response=_rewarded(tree.first, verdicts, rewarding),
        levels=tuple(_judged(level, verdicts, rewarding) for level in tree.levels),
    )


def unseen_of(tree: RefinementTree, shape: Shape) -> str:
    """Return the lines of the reference that the corrector saw and the policy did not; "" for none.

    A line that stands in the query or in y0 is known without it.
    """
    if shape.sees != "reference":
        return ""
    known = [turn.content for turn in tree.prompt.query]
    known += [tree.response.text] if tree.response else []
    said = " ".join(" ".join(known).split())
    lines = (tree.prompt.reference or "").splitlines()
    return "\n".join(line for line in lines if " ".join(line.split()) not in said)


def is_right(response: Response, truth: str) -> bool:
    """Say whether the judge called `truth` gave the response the full reward, 1."""
    return any(verdict.by == truth and verdict.reward >= 1 for verdict in response.verdicts)


async def _refine(
    context: Conversation, completion: Completion, node: str, corrector: Generate, shape: Shape
) -> tuple[Critique, Samples]:
    samples = await sample(
        corrector,
        context,
        shape.num_refinements,
        shape.max_tries,
        content_id("refinement", node),
        _says_something,
    )
    critique = Critique(
        node,
        completion.text,
        parse_rating(completion.text),
        completion.finish_reason,
        completion.num_tokens,
        tuple(_response(name, c) for name, c in samples.kept),
    )
    return critique, samples


Verdicts = dict[str, tuple[Verdict, ...] | TreeFault]


async def _judge(
    tree: RefinementTree, response: Response, rewarding: Rewarding
) -> tuple[Verdict, ...] | TreeFault:
    """Return all verdicts so far, or the fault that prevents one."""
    try:
        return await rewarding.verdicts(tree.prompt, response.text, response.verdicts)
    except TreeFault as fault:
        return fault


def _rewarded(response: Response, verdicts: Verdicts, rewarding: Rewarding) -> Response:
    given = verdicts.get(response.id)
    assert not isinstance(given, TreeFault)  # such a response is left out
    if given is None:
        return response
    return replace(response, reward=rewarding.combination.reward(given), verdicts=given)


def _judged(level: Level, verdicts: Verdicts, rewarding: Rewarding) -> Level:
    """Add the rewards to a level and remove the refinements that a judge failed on.

    The tokens of these count as rejected.
    """
    grown = [r for c in level.critiques for r in c.refinements]
    faults = {r.id: v for r in grown if isinstance(v := verdicts.get(r.id), TreeFault)}
    critiques = (
        replace(
            c,
            refinements=tuple(
                _rewarded(r, verdicts, rewarding) for r in c.refinements if r.id not in faults
            ),
        )
        for c in level.critiques
    )
    spent = sum(r.num_tokens for r in grown if r.id in faults)
    return replace(
        level,
        critiques=tuple(critiques),
        num_rejected_tokens=level.num_rejected_tokens + spent,
        num_unscored=level.num_unscored + len(faults),
        unscored_reason=level.unscored_reason or next(map(str, faults.values()), ""),
    )


def _feedback(response: Response, truth: str) -> str:
    return next((verdict.feedback for verdict in response.verdicts if verdict.by == truth), "")


def _says_something(completion: Completion) -> bool:
    return bool(completion.text)


def _current(tree: RefinementTree, shape: Shape) -> Response:
    """Return the response that the next level criticises."""
    if not tree.levels:
        return tree.first
    if shape.follow == "best":
        return max(tree.responses(), key=reward_of)
    # There is one: `correct` returns a tree early if its last level has no refinement.
    return next(_last_level(tree))


def _history(tree: RefinementTree, current: Response) -> History:
    """List the (answer, critique) of each turn on the way from y0 to the current response."""
    texts = {response.id: response.text for response in tree.responses()}
    came_from = {
        refinement.id: (level.of, critique.text)
        for level in tree.levels
        for critique in level.critiques
        for refinement in critique.refinements
    }
    turns, node = [], current.id
    while node in came_from:
        node, critique = came_from[node]
        turns.append((texts[node], critique))
    return tuple(reversed(turns))


def _last_level(tree: RefinementTree) -> Iterator[Response]:
    for critique in tree.levels[-1].critiques:
        yield from critique.refinements


def _response(node: str, completion: Completion) -> Response:
    return Response(node, completion.text, completion.finish_reason, completion.num_tokens)
