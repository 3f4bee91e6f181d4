"""How the released scripts choose, in small examples; letters are of docs/concepts/rows.md."""

from dataclasses import replace

import pytest
from scripted import TEMPLATES, critique, response, searched, tree
from test_output_pairs import outputs_of
from whole_outputs import output

from avr.core.growth import Shape
from avr.core.search import closing_critique
from avr.rows import filters
from avr.rows.funnel import Funnel
from avr.rows.output_pairs import make_output_pairs
from avr.rows.refinements import select_rsft
from avr.rows.row import KINDS
from avr.rows.rules import PROFILES, switched_on
from avr.rows.tree_pairs import make_pairs

PROFILE_NAMES = list(PROFILES["pairs"])


def pairs_of(grown, profile="as_released"):
    """(context's last critique, chosen, rejected) by kind."""
    funnels = {kind: Funnel(kind) for kind in KINDS}
    switches = switched_on("pairs", profile, {})
    made = make_pairs([grown], TEMPLATES, switches, funnels, 0.0, Shape())
    return {
        p.kind: (p.prompt[-2:][0].content, p.chosen[0].content, p.rejected[0].content) for p in made
    }


def rsft_of(grown):
    switches = switched_on("rsft", "as_released", {})
    rows = select_rsft([grown], TEMPLATES, switches, Funnel(""), shape=Shape())
    return [row.messages[-1].content for row in rows]


# "lucky" holds the best refinement, "steady" the higher mean.
LUCKY_AND_STEADY = tree(
    response("y0", 0.0),
    critique("lucky", response("a", 5.0), response("b", -4.0)),
    critique("steady", response("c", 2.0), response("d", 1.0)),
)


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_a_refinement_pairs_stand_under_the_critique_with_the_highest_mean(profile):
    pairs = pairs_of(LUCKY_AND_STEADY, profile)
    assert pairs["critique"][1:] == ("steady", "lucky")
    assert pairs["refinement"] == ("steady", "c", "d")
    assert pairs["generation"][1:] == ("a", "y0")


def test_b_there_is_no_refinement_pair_without_a_critique_pair_as_released():
    grown = tree(response("y0", 0.0), critique("c", response("a", 1.0), response("b", 2.0)))
    assert set(pairs_of(grown)) == {"generation"}
    assert set(pairs_of(grown, "recommended")) == {"generation", "refinement"}


def test_c_a_tree_that_does_not_gain_gives_no_pair_as_released():
    # "Right already, and one refinement broke it."
    grown = tree(
        response("y0", 1.0),
        critique("c", response("a", 1.0), response("b", 0.0)),
        critique("d", response("e", 0.0)),
    )
    assert pairs_of(grown) == {}
    assert set(pairs_of(grown, "recommended")) == {"critique", "refinement"}


def test_d_of_equally_good_refinements_the_last_is_the_best_of_the_tree():
    grown = tree(
        response("y0", 0.0),
        critique("c", response("a", 2.0), response("b", 2.0)),
        critique("d", response("e", 2.0), response("f", 1.0)),
    )
    assert rsft_of(grown) == ["e"]
    assert pairs_of(grown)["generation"][1] == "e"


def test_e_of_equal_means_the_first_critique_is_the_best_and_the_first_the_worst():
    grown = tree(
        response("y0", 0.0),
        critique("low", response("a", 0.5)),
        critique("first", response("b", 1.0), response("c", 2.0)),
        critique("second", response("d", 2.0), response("e", 1.0)),
        critique("also low", response("f", 0.5)),
    )
    assert pairs_of(grown)["critique"][1:] == ("first", "low")
    assert pairs_of(grown)["refinement"] == ("first", "c", "b")


def test_f_inside_a_critique_the_first_is_the_best_and_the_last_the_worst():
    of = (response("a", 2.0), response("b", 2.0), response("c", 1.0), response("d", 1.0))
    grown = tree(response("y0", 0.0), critique("good", *of), critique("bad", response("e", 0.5)))
    assert pairs_of(grown)["refinement"] == ("good", "a", "d")


def test_g_critiques_of_equal_text_are_one_group():
    grown = tree(
        response("y0", 0.0),
        critique("same", response("a", 9.0)),
        critique("other", response("b", 4.0)),
        critique("same", response("c", 1.0)),
    )
    pairs = pairs_of(grown)
    assert pairs["critique"][1:] == ("same", "other")  # a mean of 5 against 4
    assert pairs["refinement"] == ("same", "a", "c")


WORDY = " ".join(f"a {b}{c}" for b in "bcdefghi" for c in "jklmnopq")  # "a" 64 times


def test_h_i_the_loop_rule_is_not_for_rsft_rows_nor_for_output_pairs_as_released():
    grown = tree(response("y0", 0.0), critique("c", response(WORDY, 1.0)))
    assert rsft_of(grown) == [WORDY]
    item = outputs_of(output("a", 2.0, draft=WORDY), output("b", 1.0))
    switches = switched_on("outputs", "as_released", {})
    assert len(list(make_output_pairs(lambda: [item], TEMPLATES, switches, Funnel(""), 0.0))) == 1


@pytest.mark.parametrize(
    ("part", "left"),
    [
        ("y0", set()),
        ("a", set()),  # the best refinement of the tree
        ("steady", {"generation"}),
        ("lucky", {"generation", "refinement"}),
        ("c", {"generation", "critique"}),
        ("d", {"generation", "critique"}),
        ("b", {"generation", "critique", "refinement"}),
    ],
)
def test_j_k_a_loop_takes_the_pairs_that_the_released_scripts_take(part, left):
    def said(name):
        return f"{name} {WORDY}" if name == part else name

    grown = tree(
        response(said("y0"), 0.0),
        critique(said("lucky"), response(said("a"), 5.0), response(said("b"), -4.0)),
        critique(said("steady"), response(said("c"), 2.0), response(said("d"), 1.0)),
    )
    assert set(pairs_of(grown)) == left


def test_l_words_and_runs_without_spaces_are_counted_60_times():
    assert not filters.no_repeated_word("so " * 60)
    assert filters.no_repeated_word("so " * 59)
    assert not filters.no_repeated_word("So so " * 30)
    listed = "".join(f"{chr(97 + n % 26)}{n // 26 * 'x'}, " for n in range(60))
    assert not filters.no_repeated_word(listed)  # "," between words, spaces taken out
    assert filters.no_repeated_word("".join(f"w{n}\n" for n in range(90)))  # "7\n" and "8\n" differ
    assert not filters.no_repeated_word("".join(f"{'ab'[n % 2] * (n + 1)}\n" for n in range(60)))
    assert not filters.no_repeated_word("1 23x" * 30 + "12 3x" * 30)  # "123" without the spaces
    assert not filters.no_repeated_word("\u65e5" * 60)  # no Latin letter: characters count
    assert filters.no_repeated_word("\u65e5" * 59)
    assert filters.no_repeated_word("a" + "\u65e5" * 60)  # one Latin letter: words count
    assert filters.no_repeated_word("." * 1000 + "a")  # one run, once


def test_m_the_critique_of_the_best_failed_refinement_closes_as_released():
    rated = replace(critique("rated high", response("worse", 0.2)), rating=9)
    best = replace(critique("best failed", response("nearly", 0.9)), rating=3)
    grown = searched(response("y0", 1.0), (rated, best))
    assert closing_critique(grown, closing="best_refinement").text == "best failed"
    assert closing_critique(grown, closing="highest_rating").text == "rated high"
    tied = searched(response("y0", 1.0), (rated, replace(best, refinements=rated.refinements)))
    assert closing_critique(tied, closing="best_refinement").text == "rated high"
    unrefined = searched(response("y0", 1.0), (replace(best, refinements=()),))
    assert closing_critique(unrefined, closing="best_refinement").text == "best failed"
    assert closing_critique(searched(response("y0", 1.0)), closing="best_refinement") is None
