"""Preference pairs of three kinds for DPO, exactly as the method builds them (method, Stage I.4).

Every condition is a named rule, so the funnel says why a tree gave no pair of a kind. The optional
switches (length control, loops, ...) are those of `selection`, applied to chosen and rejected.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from avr.core import filters
from avr.core.funnel import Funnel, Rule, unique
from avr.core.messages import Conversation, assistant, content_id
from avr.core.prompts import Templates, answer_context, critique_context, refine_context
from avr.core.selection import has_refinement
from avr.core.tree import Critique, RefinementTree, Response, reward_of

KINDS = ("generation", "critique", "refinement")


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """`chosen` is preferred to `rejected` as the continuation of `prompt` (TRL's field names).

    `margin` is the difference in (mean) reward, always > 0. `node_ids`: the tree, the nodes
    whose texts stand in the prompt, then those of chosen and rejected.
    """

    id: str
    kind: str
    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    margin: float
    node_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two texts of a pair with what it is judged by."""

    node: str
    text: str
    finish_reason: str
    reward: float


Sides = Callable[[RefinementTree], tuple[_Side, _Side]]
Rules = list[Rule[RefinementTree]]


def make_pairs(
    tree_stream: Iterable[RefinementTree],
    templates: Templates,
    switches: frozenset[str],
    funnels: dict[str, Funnel],
    min_margin: float,
) -> Iterator[PreferencePair]:
    """Up to one pair of each kind per tree; `funnels` maps each kind in use to its funnel.

    With `min_margin` 0 every difference in reward counts (method). A larger one, in the reward's
    units, leaves out what the reward model tells apart by its noise or by a filler sentence (ours).
    """
    rules = {
        kind: _definition(kind, min_margin) + _optional(kind, templates, switches)
        for kind in funnels
    }
    for tree in tree_stream:
        for kind, funnel in funnels.items():
            if funnel.admit(tree, tree.id, rules[kind]):
                yield _pair(kind, tree, templates)


def _pair(kind: str, tree: RefinementTree, templates: Templates) -> PreferencePair:
    chosen, rejected = _SIDES[kind](tree)
    nodes = (tree.id, *_context_nodes(kind, tree), chosen.node, rejected.node)
    return PreferencePair(
        id=content_id("pair", kind, *nodes),
        kind=kind,
        prompt=_context(kind, tree, templates),
        chosen=(assistant(chosen.text),),
        rejected=(assistant(rejected.text),),
        margin=chosen.reward - rejected.reward,
        node_ids=nodes,
    )


def _context(kind: str, tree: RefinementTree, templates: Templates) -> Conversation:
    query, answer = tree.prompt.query, tree.first.text
    if kind == "generation":
        return answer_context(query, templates)
    if kind == "critique":
        return critique_context(query, answer, templates)
    return refine_context(query, answer, tree.best_refined()[0].text, templates)


def _context_nodes(kind: str, tree: RefinementTree) -> tuple[str, ...]:
    if kind == "generation":
        return ()
    y0 = tree.first.id
    return (y0,) if kind == "critique" else (y0, tree.best_refined()[0].id)


def _generation_sides(tree: RefinementTree) -> tuple[_Side, _Side]:
    return _of_response(tree.best_refined()[1]), _of_response(tree.first)


def _critique_sides(tree: RefinementTree) -> tuple[_Side, _Side]:
    ranked = sorted(_refined_critiques(tree), key=lambda c: c.mean_reward)
    return _of_critique(ranked[-1]), _of_critique(ranked[0])


def _refinement_sides(tree: RefinementTree) -> tuple[_Side, _Side]:
    ranked = sorted(tree.best_refined()[0].refinements, key=reward_of)
    return _of_response(ranked[-1]), _of_response(ranked[0])


def _of_response(r: Response) -> _Side:
    return _Side(r.id, r.text, r.finish_reason, reward_of(r))


def _of_critique(c: Critique) -> _Side:
    return _Side(c.id, c.text, c.finish_reason, c.mean_reward)


def _refined_critiques(tree: RefinementTree) -> list[Critique]:
    return [c for c in tree.levels[0].critiques if c.refinements] if tree.levels else []


_SIDES: dict[str, Sides] = {
    "generation": _generation_sides,
    "critique": _critique_sides,
    "refinement": _refinement_sides,
}


def _better_by_more_than(margin: float, sides: Sides) -> Callable[[RefinementTree], bool]:
    def better(tree: RefinementTree) -> bool:
        chosen, rejected = sides(tree)
        return chosen.reward - rejected.reward > margin

    return better


def _different(sides: Sides) -> Callable[[RefinementTree], bool]:
    def differ(tree: RefinementTree) -> bool:
        chosen, rejected = sides(tree)
        return chosen.text.strip() != rejected.text.strip()

    return differ


def _best_group_keeps_up(tree: RefinementTree) -> bool:
    chosen, _ = _critique_sides(tree)
    group = next(c for c in _refined_critiques(tree) if c.id == chosen.node)
    return max(map(reward_of, group.refinements)) >= reward_of(tree.first)


def _definition(kind: str, min_margin: float) -> Rules:
    sides = _SIDES[kind]
    strict: Rules = [
        Rule("strictly_better", _better_by_more_than(0, sides)),
        Rule("min_margin", _better_by_more_than(min_margin, sides)),
        Rule("different_text", _different(sides)),
    ]
    grown: Rule[RefinementTree] = Rule("has_refinement", has_refinement)
    if kind == "generation":
        return [grown, *strict]
    if kind == "critique":
        return [
            grown,
            Rule("two_critiques", lambda t: len(_refined_critiques(t)) > 1),
            *strict,
            Rule("best_group_keeps_up", _best_group_keeps_up),
        ]
    return [
        grown,
        Rule("two_refinements", lambda t: len(t.best_refined()[0].refinements) > 1),
        *strict,
        Rule("chosen_keeps_up", lambda t: sides(t)[0].reward >= reward_of(t.first)),
        Rule("rejected_no_tie", lambda t: sides(t)[1].reward != reward_of(t.first)),
    ]


def _optional(kind: str, templates: Templates, switches: frozenset[str]) -> Rules:
    sides = _SIDES[kind]

    def texts(tree: RefinementTree) -> tuple[str, str]:
        chosen, rejected = sides(tree)
        return chosen.text, rejected.text

    def row(tree: RefinementTree) -> tuple[object, ...]:
        return (_context(kind, tree, templates), *texts(tree))

    # A loop or a cut-off text may stand as rejected: that is what it should be. Only chosen counts.
    optional: Rules = [
        Rule("length_control", lambda t: filters.passes_length_control(*texts(t))),
        Rule("finished", lambda t: sides(t)[0].finish_reason != "length"),
        Rule("no_repeated_word", lambda t: all(map(filters.no_repeated_word, texts(t)))),
        Rule("no_loop", lambda t: filters.no_loop(texts(t)[0])),
        Rule("unique", unique(row)),
    ]
    return [rule for rule in optional if rule.name in switches]
