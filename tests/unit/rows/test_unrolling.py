"""Searched trees unrolled to trajectories, and the rows that hold a whole loop in one turn."""

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import TEMPLATES, critique, response, searched, tree

from avr.core.growth import Shape
from avr.core.messages import Message, assistant, user
from avr.core.trajectory import (
    TRAJECTORY_TEMPLATES,
    Trajectory,
    Turn,
    parse_trajectory,
    render_trajectory,
)
from avr.core.tree import Critique, Level, Response, Verdict
from avr.rows.funnel import Funnel
from avr.rows.rules import PROFILES, switched_on
from avr.rows.trajectories import select_trajectories, unroll

NAMED = list(TRAJECTORY_TEMPLATES.values())
PARTS = ("y0", "critique", "refinement", "closing")
TELLING = "As in the correct solution, it is 4."
LOOPING = "a good start then " + "over and " * 20
WORDY = " ".join(f"the word{i}" for i in range(60))  # honest, but "the" 60 times


SEEING = Shape(sees="reference")


def rows_of(*trees, switches=(), share=1.0, templates=TEMPLATES, template=NAMED[0], shape=SEEING):
    funnel = Funnel("trajectories")
    rows = select_trajectories(
        trees, templates, template, frozenset(switches), funnel, unchanged_share=share, shape=shape
    )
    return list(rows), funnel


def loop(query="question", cut="", **texts):
    """One improving turn and a closing critique; `cut` names the part that met its token limit.

    What does not get into the trajectory is cut off and looping: no rule may look at it.
    """
    said = dict(zip(PARTS, ("first", "short", "better", "fine"), strict=True)) | texts
    end = {name: "length" if name == cut else "stop" for name in said}
    aside = f"aside {WORDY} {LOOPING}"
    turns = (
        critique(aside, response(f"{aside}1", 1.5, "length"), finish="length"),
        critique(
            said["critique"],
            response(f"{aside}2", 0.0, "length"),
            response(said["refinement"], 2.0, end["refinement"]),
            finish=end["critique"],
        ),
    )
    last = critique(said["closing"], response(f"{aside}3", 1.9), finish=end["closing"])
    return searched(response(said["y0"], 1.0, end["y0"]), turns, (last,), query=query)


def unchanged(query="question"):
    """The only level found nothing better."""
    return searched(response("good", 3.0), (critique("fine", response("bad", 0.0)),), query=query)


def improving(query="question"):
    """The search ended while it was still improving."""
    return searched(response("first", 0.0), (critique("c", response("r", 1.0)),), query=query)


def test_parts_stand_in_the_order_of_the_search():
    low_mean = critique("risky", response("awful", -9.0), response("best", 2.0))
    high_mean = critique("steady", response("fair", 1.5), response("also fair", 1.6))
    grown = searched(
        response("first", 1.0),
        (high_mean, low_mean),
        (critique("again", response("even better", 4.5), response("not", 0.0)),),
        (critique("late", response("no", 4.5)), critique("later")),
    )
    unrolled = unroll(grown)
    turns = (Turn("risky", "best"), Turn("again", "even better"))
    assert unrolled.trajectory == Trajectory("first", turns, "late", "even better")
    said = ["first", "risky", "best", "again", "even better", "late"]
    assert [node.text for node in unrolled.nodes] == said
    assert unrolled.gain == 3.5
    ((row,), _) = rows_of(grown)
    assert row.node_ids == (grown.id, *(f"id-{text}" for text in said))
    assert row.messages == (
        user("question"),
        assistant(
            "<think>\nfirst\n<critique>\nrisky\n<refinement>\nbest"
            "\n<critique>\nagain\n<refinement>\neven better\n<critique>\nlate"
            "\n</think>\n\neven better"
        ),
    )


def test_tree_that_needs_no_change_says_so_and_repeats_its_answer():
    unrolled = unroll(unchanged())
    assert unrolled.trajectory == Trajectory("good", (), "fine", "good")
    assert ([n.id for n in unrolled.nodes], unrolled.gain) == (["id-good", "id-fine"], 0)


def test_search_that_was_still_improving_has_no_closing_critique():
    unrolled = unroll(improving())
    assert unrolled.trajectory == Trajectory("first", (Turn("c", "r"),), None, "r")
    assert [n.id for n in unrolled.nodes] == ["id-first", "id-c", "id-r"]


def test_system_text_and_template_are_those_asked_for():
    released, templates = TRAJECTORY_TEMPLATES["released"], replace(TEMPLATES, system="Think.")
    ((row,), _) = rows_of(improving(), templates=templates, template=released)
    assert row.messages[:2] == (Message("system", "Think."), user("question"))
    assert row.messages[2].content == render_trajectory(unroll(improving()).trajectory, released)


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("was_criticised", tree(response("alone", 1.0))),
        ("was_criticised", searched(response("alone", 1.0), ())),
        ("improved", unchanged()),
        ("closed", improving()),
        ("closed", searched(response("f", 0.0), (critique("c", response("r", 1.0)),), ())),
        *(("finished", loop(cut=part)) for part in PARTS),
        *(("no_loop", loop(**{part: LOOPING})) for part in PARTS),
        *(("discreet", loop(**{part: TELLING})) for part in PARTS[1:]),
        ("no_repeated_word", loop(y0=WORDY)),
    ],
)
def test_each_rule_removes_what_breaks_it_and_nothing_else(rule, broken):
    rows, funnel = rows_of(loop("other"), broken, switches={rule})
    assert [row.node_ids[0] for row in rows] == [loop("other").id]
    assert (funnel.num_in, funnel.num_out, funnel.removed[rule]) == (2, 1, 1)
    assert funnel.examples == {rule: [broken.id]}
    others = PROFILES["trajectories"]["recommended"] | PROFILES["trajectories"]["as_released"]
    rows, _ = rows_of(broken, switches=others - {rule})
    assert len(rows) == (rule != "was_criticised")  # which is no switch


@pytest.mark.parametrize("part", PARTS[1:])
def test_the_released_loop_rule_looks_at_y0_alone(part):
    rows, _ = rows_of(loop(**{part: WORDY}), switches={"no_repeated_word"})
    assert len(rows) == 1


def test_exact_duplicates_are_removed_and_other_queries_are_not():
    twin = replace(loop(), id="twin")
    rows, funnel = rows_of(loop(), twin, loop("other"), switches={"unique"})
    assert [row.node_ids[0] for row in rows] == [loop().id, loop("other").id]
    assert funnel.examples == {"unique": ["twin"]}
    kept, _ = rows_of(loop(), twin)
    assert kept[0].messages == kept[1].messages and kept[0].id != kept[1].id


def test_row_that_was_not_kept_makes_no_later_row_a_duplicate():
    # The first copy finds no room under unchanged_share, the second one does.
    twin = replace(unchanged(), id="twin")
    rows, _ = rows_of(unchanged(), improving(), twin, switches={"unique"}, share=0.5)
    assert [row.node_ids[0] for row in rows] == [improving().id, "twin"]


ZOO = {
    "whole": loop("a"),
    "uncriticised": tree(response("alone", 1.0)),
    "unchanged": unchanged("b"),
    "still improving": improving("c"),
    "cut off": loop("d", cut="critique"),
    "looping": loop("e", refinement=LOOPING),
    "wordy": loop("f", y0=WORDY),
    "long": loop("g", y0=WORDY[: len(WORDY) // 2], refinement=WORDY[len(WORDY) // 2 :]),
    "twin": loop("a"),
}
KEPT = {
    "as_released": ["whole", "cut off", "looping", "long"],
    "as_paper": ["whole", "still improving", "cut off", "looping", "wordy", "long", "twin"],
    "recommended": ["whole", "unchanged", "wordy", "long"],
}


@pytest.mark.parametrize("profile", PROFILES["trajectories"])
def test_each_profile_keeps_what_its_rules_say(profile):
    trees = [replace(grown, id=name) for name, grown in ZOO.items()]
    rows, _ = rows_of(*trees, switches=switched_on("trajectories", profile, {}), share=0.5)
    assert [row.node_ids[0] for row in rows] == KEPT[profile]


def test_traces_without_change_are_kept_up_to_their_share_of_the_rows_so_far():
    kinds = (unchanged, improving, unchanged, unchanged, improving, unchanged, unchanged)
    trees = [kind(str(place)) for place, kind in enumerate(kinds, 1)]
    rows, funnel = rows_of(*trees, share=0.5)
    assert [row.messages[0].content for row in rows] == ["2", "3", "5", "6"]
    assert funnel.examples == {"unchanged_share": [trees[0].id, trees[3].id, trees[6].id]}
    assert len(rows_of(*trees, share=1.0)[0]) == 7
    assert [row.gain > 0 for row in rows_of(*trees, share=0.0)[0]] == [True, True]
    assert rows_of(*trees, switches={"improved"})[1].removed["improved"] == 5


def ended_right(query="question", *, right=(0.0, 1.0), by="maths"):
    """A search that ended at its last answer; `right` holds the verdicts on y0 and on that."""
    first, last = (
        replace(response(text, reward), verdicts=(Verdict(by, reward),))
        for text, reward in zip(("first", "right"), right, strict=True)
    )
    return searched(first, (critique("c", last),), query=query)


def closed_rows(*trees, truth="maths"):
    funnel = Funnel("trajectories")
    rules, template = frozenset({"closed"}), NAMED[0]
    return list(
        select_trajectories(
            trees, TEMPLATES, template, rules, funnel, unchanged_share=0, shape=Shape(truth=truth)
        )
    ), funnel


def test_a_search_that_ended_at_a_right_answer_is_closed_and_ends_behind_it():
    (row,), funnel = closed_rows(ended_right())
    text = "<think>\nfirst\n<critique>\nc\n<refinement>\nright\n</think>\n\nright"
    assert row.messages[-1] == assistant(text)
    assert parse_trajectory(text, NAMED[0]) == unroll(ended_right()).trajectory
    assert row.node_ids == (ended_right().id, "id-first", "id-c", "id-right")
    assert funnel.removed == {"was_criticised": 0, "closed": 0, "unchanged_share": 0}
    # One that is right and was criticised all the same has its closing critique.
    more = replace(ended_right(), levels=(*ended_right().levels, Level("id-right", (FINE,))))
    assert closed_rows(more)[0][0].messages[-1].content.endswith("fine\n</think>\n\nright")


FINE = critique("fine", response("worse", 0.0))


@pytest.mark.parametrize(
    ("ended", "truth"),
    [
        (ended_right(right=(0.0, 0.99)), "maths"),
        (ended_right(by="classifier"), "maths"),
        (ended_right(), ""),
        (improving(), "maths"),
    ],
)
def test_a_search_that_ended_elsewhere_without_a_closing_critique_is_not_closed(ended, truth):
    rows, funnel = closed_rows(ended, truth=truth)
    assert rows == [] and funnel.removed["closed"] == 1


def test_an_answer_that_was_right_at_once_and_never_criticised_makes_no_trajectory():
    alone = replace(ended_right(right=(1.0, 1.0)), levels=())
    assert closed_rows(alone)[1].removed["was_criticised"] == 1


PIECES = ["word", "</think>", "<critique>\n", "<\\think>", "\\", "\n"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=3).map("".join)
REWARDS = st.integers(-2, 2).map(float)
RULES = st.sampled_from([frozenset(), *PROFILES["trajectories"].values()])
FINISHES = st.sampled_from(["stop", "stop", "length"])


@st.composite
def forests(draw):
    """Searched trees with ids of their own; texts and queries repeat and quote markers."""
    number = count()

    def node():
        return f"{next(number)}", draw(TEXTS)

    def answer(reward):
        return Response(*node(), draw(FINISHES), 1, reward)

    def critique_of(rating):
        answers = tuple(answer(reward) for reward in draw(st.lists(REWARDS, max_size=2)))
        return Critique(*node(), rating, draw(FINISHES), 1, answers)

    def grown(place):
        first, levels = answer(draw(REWARDS)), []
        best = first.reward
        for _ in range(draw(st.integers(0, 3))):
            ratings = draw(st.lists(st.integers(1, 10), max_size=2))
            levels.append(tuple(critique_of(rating) for rating in ratings))
            better = [r.reward for c in levels[-1] for r in c.refinements if r.reward > best]
            if not better:
                break
            best = max(better)
        query = draw(st.sampled_from(["question", "other"]))
        return replace(searched(first, *levels, query=query), id=f"tree-{place:02}")

    return [grown(place) for place in range(draw(st.integers(0, 6)))]


@settings(max_examples=150, deadline=None)
@given(forests(), RULES, st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 1.0]), st.sampled_from(NAMED))
def test_every_row_is_a_whole_loop_and_all_is_counted(trees, switches, share, template):
    rows, funnel = rows_of(*trees, switches=switches, share=share, template=template)
    assert funnel.num_in == len(trees) == funnel.num_out + sum(funnel.removed.values())
    assert funnel.num_out == len(rows) == len({row.id for row in rows})
    assert rows == sorted(rows, key=lambda row: row.node_ids[0])
    of = {grown.id: unroll(grown) for grown in trees}
    num_unchanged = 0
    for num_rows, row in enumerate(rows, 1):
        unrolled = of[row.node_ids[0]]
        trajectory = parse_trajectory(row.messages[-1].content, template)
        assert trajectory == unrolled.trajectory
        assert row.messages[:-1] == unrolled.tree.prompt.query
        texts = [trajectory.first]
        texts += [text for turn in trajectory.turns for text in (turn.critique, turn.refinement)]
        assert trajectory.answer == texts[-1]
        texts += [trajectory.closing] if trajectory.closing is not None else []
        assert [node.text for node in unrolled.nodes] == texts
        assert row.node_ids[1:] == tuple(node.id for node in unrolled.nodes)
        assert row.gain == unrolled.gain
        assert (row.gain > 0) == bool(trajectory.turns) and row.gain >= 0
        num_unchanged += not trajectory.turns
        assert num_unchanged <= share * num_rows
    changed, _ = rows_of(*trees, share=0.0)
    assert len(changed) == sum(bool(item.trajectory.turns) for item in of.values())


@pytest.mark.parametrize(
    ("min_gain", "answers"),
    [(0.0, ("y0", "y1", "y2", "y3")), (0.5, ("y0", "y1")), (2.0, ("y0",))],
)
def test_trajectory_ends_at_the_first_turn_that_gains_too_little(min_gain, answers):
    levels = [
        (critique(f"c{n}", response(f"y{n}", reward)),)
        for n, reward in enumerate((2.0, 2.4, 5.0, 5.0), start=1)
    ]
    item = unroll(searched(response("y0", 0.0), *levels), min_gain)
    found = item.trajectory
    assert (found.first, *(turn.refinement for turn in found.turns)) == answers
    assert found.answer == answers[-1]
    assert found.closing == f"c{len(answers)}"
    assert item.gain == {"y0": 0.0, "y1": 2.0, "y3": 5.0}[found.answer]


def test_the_critique_that_closes_a_trajectory_is_the_one_asked_for():
    rated = replace(critique("rated high", response("worse", 0.2)), rating=9)
    nearest = replace(critique("nearest", response("nearly", 0.9)), rating=3)
    grown = searched(response("y0", 1.0), (rated, nearest))
    assert unroll(grown, closing="best_refinement").trajectory.closing == "nearest"
    assert unroll(grown).trajectory.closing == "rated high"
    for closing, said in (("best_refinement", "nearest"), ("highest_rating", "rated high")):
        (row,) = select_trajectories(
            [grown],
            TEMPLATES,
            NAMED[0],
            frozenset(),
            Funnel(""),
            unchanged_share=1,
            closing=closing,
            shape=Shape(),
        )
        assert said in row.messages[-1].content


@pytest.mark.parametrize("part", ["critique", "closing"])
@pytest.mark.parametrize("truth", ["", "maths"])
def test_a_trajectory_does_not_praise_what_is_wrong(part, truth):
    funnel, switches = Funnel("trajectories"), frozenset({"sees_fault"})
    praising = loop(**{part: "This is correct."})
    rows = select_trajectories(
        [praising],
        TEMPLATES,
        NAMED[0],
        switches,
        funnel,
        unchanged_share=1.0,
        shape=Shape(truth=truth),
    )
    assert len(list(rows)) == (not truth)  # no verdict calls its answers right
