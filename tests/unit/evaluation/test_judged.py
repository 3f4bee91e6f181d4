"""Answers judged by reward and oracle: means, paired differences, and oracles that are none."""

from statistics import fmean

import pytest

from avr.config.errors import ConfigError
from avr.evaluation.judged import Judged, compare, load_oracle
from avr.evaluation.paired import difference, mean_of
from avr.miniature.oracle import quality

SEED = [Judged(f"q{n}", "a b c d", float(n)) for n in range(4)]
OURS = [Judged(f"q{n}", "a b " * n, n + 0.5) for n in range(4)]


def plain(estimate):
    return [estimate.mean, estimate.low, estimate.high]


def num_words(query, text):
    """An oracle to whom more words are better, and which knows the prompt."""
    return len(text.split()) + 10 * int(query[1:])


def test_row_has_means_and_paired_differences_of_the_rewards():
    row = compare(OURS, SEED, None)
    assert set(row) == {"num_prompts", "words", "reward"}
    assert (row["num_prompts"], row["words"]) == (4, fmean([0, 2, 4, 6]))
    assert row["reward"]["mean"] == plain(mean_of([0.5, 1.5, 2.5, 3.5]))
    assert row["reward"]["over_seed"] == [0.5, 0.5, 0.5]  # on every prompt, so without a doubt


def test_oracle_judges_both_sides_by_their_own_prompts():
    row = compare(OURS, SEED, num_words)
    ours, theirs = [0, 12, 24, 36], [4, 14, 24, 34]
    assert row["oracle"]["mean"] == plain(mean_of(ours))
    assert row["oracle"]["over_seed"] == plain(difference(ours, theirs))
    assert row["oracle"]["over_seed"][0] == -1
    assert {k: v for k, v in row.items() if k != "oracle"} == compare(OURS, SEED, None)


def test_estimates_hold_their_mean_between_low_and_high():
    for estimates in (compare(OURS, SEED, num_words)[k] for k in ("reward", "oracle")):
        for mean, low, high in estimates.values():
            assert low <= mean <= high


def test_seed_over_itself_is_no_difference():
    row = compare(SEED, SEED, num_words)
    assert row["reward"]["over_seed"] == row["oracle"]["over_seed"] == [0, 0, 0]


def test_answers_to_unequal_numbers_of_prompts_and_to_none_are_errors():
    with pytest.raises(ValueError, match="longer"):
        compare(OURS[:3], SEED, None)
    with pytest.raises(ValueError, match="at least one"):
        compare([], [], None)


def test_oracle_is_loaded_by_its_name_and_none_stays_none():
    assert load_oracle(None) is None
    assert load_oracle("avr.miniature.oracle:quality") is quality


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("avr.miniature.nowhere:quality", "No module named 'avr.miniature.nowhere'"),
        ("avr.miniature.oracle:beauty", "has no attribute 'beauty'"),
        ("avr.miniature.oracle", "has no attribute ''"),
        (":quality", "Empty module name"),
        ("", "Empty module name"),
    ],
)
def test_name_that_leads_to_no_function_is_an_error_with_the_reason(name, reason):
    with pytest.raises(ConfigError) as caught:
        load_oracle(name)
    message = str(caught.value)
    assert message.startswith(f"oracle {name!r} is no module:function: ")
    assert reason in message
