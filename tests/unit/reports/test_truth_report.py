"""What is told of right and wrong answers: mended, broken, by depth."""

from dataclasses import replace

import pytest
from scripted import critique, response, searched

from avr.core.forms import gives_away, sees_no_fault
from avr.core.growth import Shape
from avr.core.tree import Verdict
from avr.reports.truth import truth_figures, truth_statistics


def answer(text, right):
    return replace(response(text, float(right)), verdicts=(Verdict("maths", float(right)),))


def tree(first, *levels, query):
    return searched(first, *levels, query=query)


MENDED = tree(
    answer("Answer: 1", False),
    (
        critique("Step 2 is wrong.", answer("Answer: 2", True), answer("Answer: 3", False)),
        critique("There is no mistake.", answer("so 4", False)),
    ),
    (critique("As in the reference solution, it is correct.", answer("Answer: 5", False)),),
    query="one",
)
BROKEN = tree(answer("r", True), (critique("No error.", answer("w", False)),), query="two")
KEPT = tree(answer("k", True), (critique("It should be k.", answer("k2", True)),), query="three")
LEFT = tree(answer("alone", True), query="four")


def test_what_correcting_does_is_counted_by_depth():
    found = truth_statistics([MENDED, BROKEN, KEPT, LEFT], Shape(truth="maths"))
    assert found["first"] == {"answers": 4, "right": 3}
    one, two = found["by_depth"][1], found["by_depth"][2]
    assert (one["wrong_answers"], one["right_answers"]) == (1, 2)
    assert (one["mended"], one["broken"]) == (1, 1)
    assert (one["refinements_of_wrong"], one["right_refinements_of_wrong"]) == (3, 1)
    assert (one["refinements_of_right"], one["right_refinements_of_right"]) == (2, 1)
    assert (one["critiques_of_wrong"], one["no_fault_seen_in_wrong"]) == (2, 1)
    assert (one["critiques_of_right"], one["no_fault_seen_in_right"]) == (2, 1)
    assert one["in_form"] == 4  # "so 4" has no line with an answer, as what it refines has
    assert one["give_away"] == 0
    # The second level criticises the best so far, which is right.
    assert (two["right_answers"], two["broken"], two["give_away"]) == (1, 1, 1)


def test_the_lines_are_of_all_depths_together():
    figures = truth_figures(truth_statistics([MENDED, BROKEN, KEPT, LEFT], Shape(truth="maths")))
    assert figures["right at once"] == "3 of 4 (75%)"
    assert figures["wrong answers mended"] == "1 of 1 (100%)"
    assert figures["right answers broken"] == "2 of 3 (67%)"
    assert figures["texts that give away what was seen"] == "1 of 11 (9%)"


def test_nothing_is_told_of_nothing():
    assert truth_statistics([], Shape(truth="maths")) == {"first": {}, "by_depth": {}}
    assert set(truth_figures(truth_statistics([], Shape(truth="maths"))).values()) == {"-"}
    # By a judge that nobody knows no answer is right.
    assert truth_statistics([KEPT], Shape(truth="another"))["first"]["right"] == 0


@pytest.mark.parametrize(
    ("critique", "none"),
    [
        ("There is no mistake in it.", True),
        ("I see no arithmetic errors.", True),
        ("The answer is correct.", True),
        ("Each step is computed correctly.", True),
        ("It looks right.", True),
        ("The sum is correct, but it should be 5.", False),
        ("The answer is incorrect.", False),
        ("Step 2 is wrong.", False),
        ("The first mistake is in step 2.", False),
        ("However, no mistake is left out.", False),
        ("The first step is correct, but the second adds 3 twice.", False),
        ("The function does not correctly handle negative numbers.", False),
        ("It fails to correctly add the two numbers.", False),
        ("It doesn't sum correctly.", False),
        ("It is correct until step 3.", False),
    ],
)
def test_a_critique_that_sees_no_fault_says_so(critique, none):
    assert sees_no_fault(critique) is none


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("As the reference solution shows, it is 5.", True),
        ("It differs from the expected answer.", True),
        ("Compared with the correct solution, step 2 is off.", True),
        ("The hidden tests found a fault.", True),
        ("As the note says, it is 5.", True),
        ("For your eyes only: 5.", True),
        ("Write as if you had worked it out by yourself.", True),  # of a note that was copied
        ("The given solution is right.", False),
        ("The correct answer is 5.", False),
        ("Your test cases are good.", False),
        ("", False),
    ],
)
def test_a_text_that_speaks_of_what_its_reader_has_not_seen(text, gives):
    assert gives_away(text) is gives


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("So  Ann sold\n48 + 24 = 72 clips. Right?", True),
        ("Ann sold 72 clips.", False),
        ("Answer: 72", False),
    ],
)
def test_a_text_that_quotes_a_line_of_the_solution(text, gives):
    assert gives_away(text, "Ann sold 48 + 24 = 72 clips.\nAnswer: 72\n") is gives
