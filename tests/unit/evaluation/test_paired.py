"""Means and paired differences, with their intervals."""

import pytest

from avr.evaluation.paired import difference, mean_of


def test_interval_holds_the_mean_and_narrows_with_more_prompts():
    few, many = mean_of([0.0, 1.0] * 10), mean_of([0.0, 1.0] * 500)
    assert few.mean == many.mean == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high


def test_paired_difference_sees_what_unpaired_means_would_not():
    theirs = [float(n) for n in range(100)]
    better = difference([x + 0.1 for x in theirs], theirs)
    assert better.low > 0
    assert better.mean == pytest.approx(0.1)


def test_pairs_of_unequal_length_and_empty_sets_are_errors():
    with pytest.raises(ValueError, match="longer"):
        difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no prompts"):
        mean_of([])
