"""Make preference pairs of three kinds for DPO (method, Stage I.4).

Every condition is a named rule, so the funnel says why a tree gave no pair of a kind. `_definition`
lists the rules that define a pair, `_optional` the rules that a profile may switch.

Ties are broken as in the released code. Among equal refinements of a tree the last is the best.
Among equal critiques the first is the best, and the first is the worst. Among equal refinements of
one critique the first is the best and the last is the worst.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from avr.core.growth import Shape
from avr.core.messages import Conversation
from avr.core.prompts import Templates, answer_context, critique_context, refine_context
from avr.core.tree import Critique, RefinementTree, Response, has_refinement, reward_of
from avr.rows import filters
from avr.rows.funnel import Funnel, Rule, unique
from avr.rows.row import PreferencePair


@dataclass(frozen=True, slots=True)
class _Side:
    """Hold one of the two texts of a pair, with the facts that the rules look at."""

    node: str
    text: str
    finish_reason: str
    reward: float


@dataclass(frozen=True, slots=True)
class _Group:
    """Hold a critique and its refinements; critiques of equal text are one group (released)."""

    critique: Critique
    refinements: tuple[Response, ...]


Sides = Callable[[RefinementTree], tuple[_Side, _Side]]
Rules = list[Rule[RefinementTree]]


def make_pairs(
    tree_stream: Iterable[RefinementTree],
    templates: Templates,
    switches: frozenset[str],
    funnels: dict[str, Funnel],
    min_margin: float,
    shape: Shape,
) -> Iterator[PreferencePair]:
    """Make up to one pair of each kind per tree; `funnels` maps each kind in use to its funnel.

    With `min_margin` 0 every difference in reward counts (method). A larger one, in the reward's
    units, leaves out texts that the reward model tells apart by noise or by a filler sentence
    (ours). `shape` is the one that trees were grown under.
    """
    rules = {
        kind: _definition(kind, min_margin) + _optional(kind, templates, switches, shape)
        for kind in funnels
    }
    for tree in tree_stream:
        for kind, funnel in funnels.items():
            if funnel.admit(tree, tree.id, rules[kind]):
                yield _pair(kind, tree, templates)


def _pair(kind: str, tree: RefinementTree, templates: Templates) -> PreferencePair:
    chosen, rejected = _SIDES[kind](tree)
    context = tuple(node.id for node in _context_nodes(kind, tree))
    nodes = (tree.id, *context, chosen.node, rejected.node)
    prompt, margin = _context(kind, tree, templates), chosen.reward - rejected.reward
    return PreferencePair.of(kind, prompt, chosen.text, rejected.text, margin, *nodes)


def _context(kind: str, tree: RefinementTree, templates: Templates) -> Conversation:
    query, answer = tree.prompt.query, tree.first.text
    if kind == "generation":
        return answer_context(query, templates)
    if kind == "critique":
        return critique_context(query, answer, templates)
    return refine_context(query, answer, _best_group(tree).critique.text, templates)


def _context_nodes(kind: str, tree: RefinementTree) -> tuple[Response | Critique, ...]:
    if kind == "generation":
        return ()
    return (tree.first,) if kind == "critique" else (tree.first, _best_group(tree).critique)


def _groups(tree: RefinementTree) -> list[_Group]:
    """Group the refined critiques of y0 by their text, in the order of growth.

    The tree has some: the rule `has_refinement` comes first.
    """
    found: dict[str, _Group] = {}
    for critique in tree.levels[0].critiques:
        if critique.refinements:
            there = found.get(critique.text, _Group(critique, ()))
            refinements = (*there.refinements, *critique.refinements)
            found[critique.text] = _Group(there.critique, refinements)
    return list(found.values())


def _mean_reward(group: _Group) -> float:
    """Average the rewards of the refinements; critiques are ranked by this mean (released)."""
    return sum(map(reward_of, group.refinements)) / len(group.refinements)


def _best_group(tree: RefinementTree) -> _Group:
    """Find the critique with the highest mean reward; refinement pairs are refinements of it."""
    return max(_groups(tree), key=_mean_reward)


def _generation_sides(tree: RefinementTree) -> tuple[_Side, _Side]:
    return _of_response(tree.best_refined()[1]), _of_response(tree.first)


def _critique_sides(tree: RefinementTree) -> tuple[_Side, _Side]:
    return _of_group(_best_group(tree)), _of_group(min(_groups(tree), key=_mean_reward))


def _refinement_sides(tree: RefinementTree) -> tuple[_Side, _Side]:
    refinements = _best_group(tree).refinements
    best, worst = max(refinements, key=reward_of), min(reversed(refinements), key=reward_of)
    return _of_response(best), _of_response(worst)


def _of_group(group: _Group) -> _Side:
    c = group.critique
    return _Side(c.id, c.text, c.finish_reason, _mean_reward(group))


def _of_response(r: Response) -> _Side:
    return _Side(r.id, r.text, r.finish_reason, reward_of(r))


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


def _definition(kind: str, min_margin: float) -> Rules:
    sides = _SIDES[kind]
    strict: Rules = [
        Rule("strictly_better", _better_by_more_than(0, sides)),
        Rule("min_margin", _better_by_more_than(min_margin, sides)),
        Rule("different_text", _different(sides)),
    ]
    two: dict[str, Rules] = {
        "generation": [],
        "critique": [Rule("two_critiques", lambda t: len(_groups(t)) > 1)],
        "refinement": [Rule("two_refinements", lambda t: len(_best_group(t).refinements) > 1)],
    }
    return [Rule("has_refinement", has_refinement), *two[kind], *strict]


def _optional(kind: str, templates: Templates, switches: frozenset[str], shape: Shape) -> Rules:
    sides = _SIDES[kind]

    def texts(tree: RefinementTree) -> tuple[str, str]:
        chosen, rejected = sides(tree)
        return chosen.text, rejected.text

    def row(tree: RefinementTree) -> tuple[object, ...]:
        return (_context(kind, tree, templates), *texts(tree))

    # A loop or a cut-off text may be the rejected one, as it should be. It may not be chosen, nor
    # stand in the context, which would teach the model that such answers occur.
    def read(tree: RefinementTree) -> tuple[Response | Critique | _Side, ...]:
        return (*_context_nodes(kind, tree), sides(tree)[0])

    def sees_fault(tree: RefinementTree) -> bool:
        if kind == "generation":
            return True
        return filters.sees_fault(tree.first, _best_group(tree).critique.text, shape.truth)

    def released_reads(tree: RefinementTree) -> list[str]:
        context = [node.text for node in _context_nodes(kind, tree)]
        return [tree.first.text, tree.best_refined()[1].text, *context, *texts(tree)]

    optional: Rules = [
        *_released(kind),
        Rule("length_control", lambda t: filters.passes_length_control(*texts(t))),
        Rule("finished", lambda t: all(n.finish_reason != "length" for n in read(t))),
        Rule("no_repeated_word", lambda t: all(map(filters.no_repeated_word, released_reads(t)))),
        Rule("no_loop", lambda t: all(filters.no_loop(n.text) for n in read(t))),
        Rule("discreet", lambda t: filters.discreet(t, [n.text for n in read(t)], shape)),
        Rule("sees_fault", sees_fault),
        Rule("unique", unique(row)),
    ]
    return [rule for rule in optional if rule.name in switches]


def _released(kind: str) -> Rules:
    """List the rules of the released scripts that compare rewards inside a tree."""
    if kind == "generation":
        return []
    gains: Rules = [Rule("tree_gains", lambda t: t.gain > 0)]
    if kind == "critique":
        return [*gains, Rule("best_group_keeps_up", _best_group_keeps_up)]
    return [
        *gains,
        Rule("chosen_keeps_up", lambda t: _refinement_sides(t)[0].reward >= reward_of(t.first)),
        Rule("rejected_no_tie", lambda t: _refinement_sides(t)[1].reward != reward_of(t.first)),
        Rule("with_critique_pair", _critiques_make_a_pair),
    ]


def _best_group_keeps_up(tree: RefinementTree) -> bool:
    return max(map(reward_of, _best_group(tree).refinements)) >= reward_of(tree.first)


def _critiques_make_a_pair(tree: RefinementTree) -> bool:
    best, worst = _critique_sides(tree)
    return best.reward > worst.reward
