"""Select the refinements that RSFT trains on, by named rules that profiles gather."""

from collections.abc import Callable, Iterable, Iterator

from avr.core.growth import Shape, is_right
from avr.core.messages import assistant, content_id
from avr.core.prompts import Templates, answer_context, refinement_conversation
from avr.core.tree import RefinementTree, has_refinement
from avr.rows import filters
from avr.rows.funnel import Funnel, Rule, unique
from avr.rows.row import RsftRow


def select_rsft(
    trees: Iterable[RefinementTree],
    templates: Templates,
    switches: frozenset[str],
    funnel: Funnel,
    *,
    shape: Shape,
    kept_share: float = 0.0,
) -> Iterator[RsftRow]:
    """Make one row per tree with a best refinement that passes the rules, in order of the trees.

    Source: method, Stage I.2. With the switch `plain_rows` (released) a tree that the funnel counts
    as removed gives a plain row, if its prompt brought an answer. Up to `kept_share` of the rows so
    far may hold an answer that was right and stays right, by the judge `shape.truth` (ours: a model
    that only ever sees corrections of wrong answers learns that its answer is wrong).
    """
    kept = {"all": 0, "right": 0}

    def has_room(tree: RefinementTree) -> bool:
        return tree.gain > 0 or kept["right"] + 1 <= kept_share * (kept["all"] + 1)

    def gains(tree: RefinementTree) -> bool:
        return tree.gain > 0 or (kept_share > 0 and _stays_right(tree, shape.truth))

    rules = [
        Rule("has_refinement", has_refinement),
        Rule("positive_gain", gains),
        *_optional(switches, shape),
        Rule("kept_share", has_room),
    ]
    # This is the last rule, so only a row that is kept makes another one a duplicate.
    if "unique" in switches:
        rules.append(Rule("unique", unique(lambda tree: _row(tree, templates).messages)))
    is_new: Callable[[RsftRow], bool] = unique(lambda row: row.messages)
    for tree in trees:
        if funnel.admit(tree, tree.id, rules):
            kept["all"] += 1
            kept["right"] += tree.gain <= 0
            yield _row(tree, templates)
        elif "plain_rows" in switches and tree.prompt.answer:
            row = _plain_row(tree, templates)
            if is_new(row):
                yield row


def _optional(switches: frozenset[str], shape: Shape) -> list[Rule[RefinementTree]]:
    optional = [
        Rule("length_control", _not_much_longer),
        Rule("finished", _finished),
        Rule("no_repeated_word", lambda t: all(map(filters.no_repeated_word, _texts(t)))),
        Rule("no_loop", lambda t: all(map(filters.no_loop, _texts(t)))),
        Rule("discreet", lambda t: filters.discreet(t, _texts(t), shape)),
        Rule("sees_fault", lambda t: filters.sees_fault(t.first, _texts(t)[1], shape.truth)),
    ]
    return [rule for rule in optional if rule.name in switches]


def _stays_right(tree: RefinementTree, truth: str) -> bool:
    return is_right(tree.first, truth) and is_right(tree.best_refined()[1], truth)


def _not_much_longer(tree: RefinementTree) -> bool:
    return filters.passes_length_control(tree.best_refined()[1].text, tree.first.text)


def _finished(tree: RefinementTree) -> bool:
    critique, refinement = tree.best_refined()
    return "length" not in (
        tree.first.finish_reason,
        critique.finish_reason,
        refinement.finish_reason,
    )


def _texts(tree: RefinementTree) -> tuple[str, str, str]:
    critique, refinement = tree.best_refined()
    return (tree.first.text, critique.text, refinement.text)


def _row(tree: RefinementTree, templates: Templates) -> RsftRow:
    critique, refinement = tree.best_refined()
    messages = refinement_conversation(tree.prompt.query, *_texts(tree), templates)
    nodes = (tree.id, tree.first.id, critique.id, refinement.id)
    return RsftRow(content_id("rsft", *nodes), messages, nodes, tree.gain)


def _plain_row(tree: RefinementTree, templates: Templates) -> RsftRow:
    answer = tree.prompt.answer
    assert answer is not None  # the caller checked
    messages = (*answer_context(tree.prompt.query, templates), assistant(answer))
    return RsftRow(content_id("rsft-plain", tree.id), messages, (tree.id,), 0.0)
