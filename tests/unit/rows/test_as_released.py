"""The profile `as_released` against what the authors' released scripts select, row for row.

The trees are made up, the choices are the scripts' own. What differs on purpose is named and
counted. Small examples of each rule that need no data are in test_released_rules.py.
"""

import pytest
from released import FOLDER, REASON, cases, grown, outputs_of, search_of
from scripted import TEMPLATES

from avr.core.growth import Shape
from avr.core.search import improving_turns
from avr.core.trajectory import (
    TRAJECTORY_TEMPLATES,
    Trajectory,
    Turn,
    parse_trajectory,
    render_trajectory,
)
from avr.rows.funnel import Funnel
from avr.rows.output_pairs import make_output_pairs
from avr.rows.refinements import select_rsft
from avr.rows.row import KINDS
from avr.rows.rules import CLOSINGS, switched_on
from avr.rows.trajectories import select_trajectories
from avr.rows.tree_pairs import make_pairs

RELEASED = TRAJECTORY_TEMPLATES["released"]

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=REASON)


def rules(rows):
    return switched_on(rows, "as_released", {})


def pairs_of(tree):
    """Chosen, rejected and the assistant's texts of the context of each pair, by kind."""
    funnels = {kind: Funnel(kind) for kind in KINDS}
    made = make_pairs([tree], TEMPLATES, rules("pairs"), funnels, 0.0, Shape())
    return {
        pair.kind: (
            [m.content for m in pair.prompt[len(tree.prompt.query) :] if m.role == "assistant"],
            pair.chosen[0].content,
            pair.rejected[0].content,
        )
        for pair in made
    }


def released_pairs_of(case):
    """The same of the released choice."""

    def text(place):
        critique, refinement = place
        return case["critiques"][critique][1][refinement][0]

    def critique(place):
        return case["critiques"][place][0]

    y0, picked, found = case["y0"], case["released"], {}
    if "generation" in picked:
        found["generation"] = ([], text(picked["generation"]["chosen"]), y0)
    if "critique" in picked:
        sides = picked["critique"]
        found["critique"] = ([y0], critique(sides["chosen"]), critique(sides["rejected"]))
    if "refinement" in picked:
        sides = picked["refinement"]
        context = [y0, critique(sides["critique"])]
        found["refinement"] = (context, text(sides["chosen"]), text(sides["rejected"]))
    return found


def test_rsft_rows_are_those_as_released():
    differ, num_rows = [], 0
    for number, case in cases("stage1"):
        tree = grown(number, case)
        rows = list(select_rsft([tree], TEMPLATES, rules("rsft"), Funnel(""), shape=Shape()))
        ours = [[m.content for m in row.messages if m.role == "assistant"][-3:] for row in rows]
        picked = case["released"].get("rsft")
        theirs = []
        if picked:
            critique, refinement = picked["refinement"]
            refined = case["critiques"][critique][1][refinement][0]
            theirs = [[case["y0"], case["critiques"][picked["critique"]][0], refined]]
        num_rows += len(theirs)
        differ += [case["family"]] if ours != theirs else []
    assert (differ, num_rows > 0) == ([], True)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_those_as_released(kind):
    differ, num_pairs = [], 0
    for number, case in cases("stage1"):
        ours, theirs = pairs_of(grown(number, case)).get(kind), released_pairs_of(case).get(kind)
        num_pairs += theirs is not None
        differ += [(number, case["family"])] if ours != theirs else []
    assert (differ, num_pairs > 0) == ([], True)


def whole(case):
    """The trajectory that the released choice stands for."""
    turns, y0, best = [], case["y0"], case["y0"]
    levels = [search_of(0, case).levels[n] for n in range(case["released"]["turns"])]
    for level in levels:
        refined = [(r.reward, c.text, r.text) for c in level.critiques for r in c.refinements]
        _, critique, best = max(refined, key=lambda each: each[0])
        turns.append(Turn(critique, best))
    failed = case["levels"][case["released"]["turns"]]
    closing = failed["critiques"][case["released"]["closing_critique"]]
    return Trajectory(y0, tuple(turns), closing, best)


def test_trajectories_and_their_texts_are_those_as_released(record_property):
    """But for N: a last level that was criticised and not refined closes a trajectory here."""
    differ, closed_here, num_rows = [], 0, 0
    for number, case in cases("stage2_search"):
        tree = search_of(number, case)
        ours = [
            row.messages[-1].content
            for row in select_trajectories(
                [tree],
                TEMPLATES,
                RELEASED,
                rules("trajectories"),
                Funnel(""),
                unchanged_share=0.0,
                closing=CLOSINGS["as_released"],
                shape=Shape(),
            )
        ]
        num_rows += case["released"] is not None
        if case["released"] is None:
            failed = tree.levels[len(improving_turns(tree)) :]
            unrefined = bool(failed) and not any(c.refinements for c in failed[0].critiques)
            if ours and unrefined:
                closed_here += 1
                continue
        theirs = [render_trajectory(whole(case), RELEASED)] if case["released"] else []
        differ += [(number, case["family"])] if ours != theirs else []
        assert all(parse_trajectory(text, RELEASED) == whole(case) for text in theirs)
    assert (differ, num_rows > 0) == ([], True)
    record_property("closed here, dropped by the released script (N)", closed_here)


def test_output_pairs_are_those_as_released():
    differ, num_pairs = [], 0
    for number, case in cases("stage2_outputs"):

        def render(each):
            return f"{each['thinking']} | {each['answer']}"

        item = outputs_of(number, case, render)
        found = make_output_pairs(
            lambda item=item: [item], TEMPLATES, rules("outputs"), Funnel(""), 0
        )
        ours = [(pair.chosen[0].content, pair.rejected[0].content) for pair in found]
        picked = case["released"]
        sides = [case["outputs"][picked[side]] for side in ("chosen", "rejected")] if picked else []
        theirs = [tuple(map(render, sides))] if sides else []
        num_pairs += bool(theirs)
        differ += [(number, case["family"])] if ours != theirs else []
    assert (differ, num_pairs > 0) == ([], True)
