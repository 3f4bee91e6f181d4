"""Make trajectories of searched trees, and RSFT rows that hold a whole loop in one turn."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from avr.core.growth import Shape, is_right
from avr.core.messages import assistant, content_id
from avr.core.prompts import Templates, answer_context
from avr.core.search import Closing, best_answer, closing_critique, improving_turns
from avr.core.trajectory import (
    Trajectory,
    TrajectoryTemplate,
    Turn,
    render_trajectory,
)
from avr.core.tree import Critique, RefinementTree, Response, reward_of
from avr.rows import filters
from avr.rows.funnel import Funnel, Rule, unique
from avr.rows.row import RsftRow


@dataclass(frozen=True, slots=True)
class Unrolled:
    """Hold a tree's trajectory, with the nodes that its parts come from, in the text's order.

    `answer` is the node that the final answer comes from, one of them.
    """

    tree: RefinementTree
    trajectory: Trajectory
    nodes: tuple[Response | Critique, ...]
    answer: Response
    gain: float


def unroll(
    tree: RefinementTree, min_gain: float = 0.0, closing: Closing = "highest_rating"
) -> Unrolled:
    """Join y0, (critique, refinement) of each improving turn, closing critique and best answer.

    Source: method, Stage II.2. For `min_gain` see `improving_turns`, for `closing` see
    `closing_critique`. `gain` is the reward of the final answer minus the reward of y0.
    """
    turns, last = improving_turns(tree, min_gain), closing_critique(tree, min_gain, closing)
    best = best_answer(tree, min_gain)
    trajectory = Trajectory(
        first=tree.first.text,
        turns=tuple(Turn(critique.text, refinement.text) for critique, refinement in turns),
        closing=last.text if last else None,
        answer=best.text,
    )
    nodes = (
        tree.first,
        *(node for turn in turns for node in turn),
        *([last] if last else []),
    )
    return Unrolled(tree, trajectory, nodes, best, reward_of(best) - reward_of(tree.first))


def select_trajectories(
    trees: Iterable[RefinementTree],
    templates: Templates,
    template: TrajectoryTemplate,
    switches: frozenset[str],
    funnel: Funnel,
    *,
    unchanged_share: float,
    min_gain: float = 0.0,
    closing: Closing = "highest_rating",
    shape: Shape,
) -> Iterator[RsftRow]:
    """Make one row per tree with a trajectory that passes the rules, in the order of the trees.

    A search that ended at an answer which the judge `shape.truth` calls right is closed without a
    critique (ours: nothing was left to say). Its trajectory ends behind that answer.

    Without the rule `improved`, trajectories without a change (y0, a closing critique, y0 again)
    are kept as long as they are at most `unchanged_share` of the rows so far (ours: a model that
    only ever sees improvement never learns to stop).
    """
    kept = {"all": 0, "unchanged": 0}

    def has_room(item: Unrolled) -> bool:
        if item.trajectory.turns:
            return True
        return kept["unchanged"] + 1 <= unchanged_share * (kept["all"] + 1)

    def text(item: Unrolled) -> str:
        return render_trajectory(item.trajectory, template)

    optional: list[Rule[Unrolled]] = [
        Rule("improved", lambda item: bool(item.trajectory.turns)),
        Rule(
            "closed", lambda i: i.trajectory.closing is not None or is_right(i.answer, shape.truth)
        ),
        Rule("finished", lambda item: all(n.finish_reason != "length" for n in item.nodes)),
        Rule("no_repeated_word", lambda item: filters.no_repeated_word(item.tree.first.text)),
        Rule("no_loop", lambda item: all(filters.no_loop(n.text) for n in item.nodes)),
        Rule("sees_fault", lambda item: _sees_faults(item, shape.truth)),
        Rule("discreet", lambda i: filters.discreet(i.tree, [n.text for n in i.nodes], shape)),
    ]
    rules = [
        Rule("was_criticised", lambda item: _was_criticised(item.tree)),
        *(rule for rule in optional if rule.name in switches),
        Rule("unchanged_share", has_room),
    ]
    # This is the last rule, so only a row that is kept makes another one a duplicate.
    if "unique" in switches:
        rules.append(Rule("unique", unique(lambda item: (item.tree.prompt.query, text(item)))))
    for item in (unroll(tree, min_gain, closing) for tree in trees):
        if funnel.admit(item, item.tree.id, rules):
            kept["all"] += 1
            kept["unchanged"] += not item.trajectory.turns
            nodes = (item.tree.id, *(node.id for node in item.nodes))
            query = answer_context(item.tree.prompt.query, templates)
            messages = (*query, assistant(text(item)))
            yield RsftRow(content_id("trajectory", *nodes), messages, nodes, item.gain)


def _sees_faults(item: Unrolled, truth: str) -> bool:
    """Check each critique against the answer before it."""
    return all(
        filters.sees_fault(answer, critique.text, truth)
        for answer, critique in pairwise(item.nodes)
        if isinstance(answer, Response) and isinstance(critique, Critique)
    )


def _was_criticised(tree: RefinementTree) -> bool:
    return any(level.critiques for level in tree.levels)
