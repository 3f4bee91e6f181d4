"""The figures of the gate report, on cases small enough to count."""

from avr.miniature.making.measures import copies_answer, flag_rates, pairwise_accuracy, well_formed

PROMPT = "List (a) two fruits and (b) two tools."
GOOD = "Fruits: a1 apple, a2 plum. Tools: b1 saw, b2 axe."
POOR = "Fruits: a1 apple, a2 owl. Tools: b1 saw."
CRITIQUE = (
    "Fruits: a1 apple wrong, a2 owl wrong, none missing. "
    "Tools: b1 saw good, none missing. Rating: [[5]]"
)


def test_flag_rates_counts_items_and_missing_words() -> None:
    # Faults: owl (flagged), one tool missing (not flagged). Good: apple (alarm), saw, fruit count.
    assert flag_rates([PROMPT], [POOR], [CRITIQUE]) == (1 / 2, 1 / 3)


def test_flag_rates_leaves_out_what_cannot_be_read() -> None:
    assert flag_rates([PROMPT, PROMPT], [POOR, "?"], ["?", CRITIQUE]) == (0.0, 0.0)


def test_pairwise_accuracy_skips_equal_quality() -> None:
    answers = [[GOOD, GOOD], [POOR, GOOD]]
    assert pairwise_accuracy([PROMPT] * 2, answers, [[1.0, 0.0], [0.0, 1.0]]) == 1.0
    assert pairwise_accuracy([PROMPT] * 2, answers, [[0.0, 0.0], [1.0, 1.0]]) == 0.0


def test_well_formed_is_a_share() -> None:
    assert well_formed([PROMPT] * 2, [GOOD, "apple"]) == 0.5
    assert well_formed([PROMPT] * 2, [CRITIQUE, GOOD], critique=True) == 0.5


def test_copies_answer_wants_the_same_items() -> None:
    assert copies_answer([PROMPT], [POOR], [CRITIQUE]) == 1.0
    assert copies_answer([PROMPT], [GOOD], [CRITIQUE]) == 0.0
