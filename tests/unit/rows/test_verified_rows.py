"""Rows that a verifier decides on: right outputs (RFT), and answers that were right and stay so."""

from dataclasses import replace

import pytest
from made_rows import GOOD
from scripted import TEMPLATES, critique, response, tree
from whole_outputs import output

from avr.core.growth import Shape
from avr.core.messages import assistant, user
from avr.core.outputs import open_set
from avr.core.tree import Prompt, Verdict
from avr.rows.funnel import Funnel
from avr.rows.refinements import select_rsft
from avr.rows.rules import switched_on
from avr.rows.verified import select_verified

LOOPING = "a good start then " + "over and " * 20
WORDY = " ".join(f"the word{i}" for i in range(60))
RIGHT, WRONG = (Verdict("maths", 1.0),), (Verdict("maths", 0.0, "wrong"),)


def said(answer, verdicts=RIGHT, **more):
    return replace(output(answer, 0.0), verdicts=verdicts, **more)


def set_of(*outputs, query="question", **more):
    return replace(open_set(Prompt.of((user(query),)), "recipe"), outputs=outputs, **more)


def kept(*sets, switches=(), truth="maths", templates=TEMPLATES):
    funnel = Funnel("rft")
    rows = select_verified(sets, templates, frozenset(switches), funnel, truth=truth)
    return list(rows), funnel


def test_every_right_output_is_a_row_and_none_that_is_wrong():
    partly = said("partly", (Verdict("maths", 0.99),))
    outputs = set_of(said("one"), said("two", WRONG), partly, said("unjudged", ()), said("three"))
    failed = said("failed", failure="no end")
    rows, funnel = kept(replace(outputs, failures=(failed,)), set_of(said("four"), query="other"))
    assert [row.messages for row in rows] == [
        (user("question"), assistant("one")),
        (user("question"), assistant("three")),
        (user("other"), assistant("four")),
    ]
    assert (rows[0].node_ids, rows[0].gain) == ((outputs.id, outputs.outputs[0].id), 0.0)
    assert (funnel.num_in, funnel.num_out, funnel.removed["right"]) == (6, 3, 3)
    assert len({row.id for row in rows}) == 3


def test_of_several_judges_the_one_that_knows_decides():
    liked = said("liked", (Verdict("classifier", 9.0), Verdict("maths", 0.0)))
    right = said("right", (Verdict("classifier", -9.0), Verdict("maths", 1.0)))
    rows, _ = kept(set_of(liked, right))
    assert [row.messages[-1].content for row in rows] == ["right"]
    assert kept(set_of(liked, right), truth="nobody")[0] == []


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("finished", said("cut", finish_reason="length")),
        ("no_loop", said(LOOPING)),
        ("no_repeated_word", said(WORDY)),
        ("unique", said("fine", num_tokens=9)),
    ],
)
def test_each_rule_removes_what_breaks_it_and_nothing_else(rule, broken):
    rows, funnel = kept(set_of(said("fine"), broken), switches=[rule])
    assert [row.messages[-1].content for row in rows] == ["fine"]
    assert (funnel.removed[rule], funnel.removed["right"]) == (1, 0)
    others = {"finished", "no_loop", "no_repeated_word", "unique"} - {rule}
    assert len(kept(set_of(said("fine"), broken), switches=others)[0]) == 2


def test_the_profiles_of_rft():
    fine = switched_on("rft", "recommended", {})
    assert fine == {"finished", "no_loop", "unique"}
    assert switched_on("rft", "as_paper", {}) == switched_on("rft", "as_released", {}) == {"unique"}


# Answers that were right and stay right, among the rows of Stage I


def stays(number, first=RIGHT, refined=RIGHT):
    """A tree whose refinement is worth as much as y0."""
    y0 = replace(response(f"y{number}", 1.0), verdicts=first)
    better = replace(response(f"r{number}", 1.0), verdicts=refined)
    return tree(y0, critique(f"c{number}", better), query=f"question {number}")


def mends(number):
    y0 = replace(response(f"y{number}", 0.0), verdicts=WRONG)
    better = replace(response(f"r{number}", 1.0), verdicts=RIGHT)
    return tree(y0, critique(f"c{number}", better), query=f"question {number}")


def selected(*trees, share, truth="maths", switches=()):
    funnel = Funnel("rsft")
    more = {"shape": Shape(truth=truth), "kept_share": share}
    rows = list(select_rsft(trees, TEMPLATES, frozenset(switches), funnel, **more))
    return [row.messages[-1].content for row in rows], funnel


def test_without_a_share_no_answer_that_stays_right_is_a_row():
    rows, funnel = selected(stays(0), mends(1), share=0.0)
    assert rows == ["r1"]
    assert funnel.removed == {"has_refinement": 0, "positive_gain": 1, "kept_share": 0}


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_answers_that_stay_right_are_at_most_their_share_of_the_rows(share):
    trees = [stays(n) if n % 2 else mends(n) for n in range(100)]
    rows, funnel = selected(*trees, share=share)
    kept_right = [row for row in rows if int(row[1:]) % 2]
    assert len(rows) - len(kept_right) == 50  # nothing that gains is left out for them
    assert len(kept_right) <= share * len(rows)
    assert len(kept_right) + 1 > share * (len(rows) + 1) or len(kept_right) == 50
    assert funnel.removed["kept_share"] == 50 - len(kept_right)


def test_a_row_for_which_there_was_no_room_makes_no_later_one_a_duplicate():
    twin = replace(stays(0), id="twin")
    rows, funnel = selected(stays(0), mends(1), twin, share=0.5, switches={"unique"})
    assert rows == ["r1", "r0"]
    assert funnel.examples == {"kept_share": [stays(0).id]}
    assert list(funnel.removed)[-2:] == ["kept_share", "unique"]
    rows, funnel = selected(mends(1), stays(0), mends(2), twin, share=0.5, switches={"unique"})
    assert rows == ["r1", "r0", "r2"] and funnel.examples == {"unique": ["twin"]}


@pytest.mark.parametrize(
    "other",
    [stays(0, WRONG, WRONG), stays(0, RIGHT, WRONG), stays(0, WRONG, RIGHT), stays(0, (), ())],
)
def test_a_gain_is_asked_of_every_other_row(other):
    rows, funnel = selected(other, mends(1), share=1.0)
    assert rows == ["r1"] and funnel.removed["positive_gain"] == 1


def test_nothing_stays_right_where_nobody_knows():
    assert selected(stays(0), share=1.0, truth="")[0] == []
    assert selected(stays(0), share=1.0)[0] == ["r0"]
    assert selected(GOOD, share=1.0)[0] == ["d"]  # a gain needs no verdict
