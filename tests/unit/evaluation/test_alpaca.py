"""AlpacaEval's published numbers, from its published preferences and weights."""

import csv
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from avr.evaluation.alpaca import (
    AlignmentError,
    Weights,
    check_aligned,
    lc_noreg,
    predict_lc,
    win_rate,
)
from avr.evaluation.logistic import SeparationError

FIXTURE = Path(__file__).parents[4] / "shared/data/lc_fixture"
# Their published LC does not follow from their published weights.
INCONSISTENT = {"NullModel", "dbrx-instruct"}

published = pytest.mark.skipif(
    not FIXTURE.exists(), reason="needs AlpacaEval's published numbers in ../shared/data/lc_fixture"
)


@pytest.fixture(scope="module")
def rows():
    with (FIXTURE / "lc_fixture.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def expected():
    return json.loads((FIXTURE / "expected.json").read_text())


@pytest.fixture(scope="module")
def weights():
    return json.loads((FIXTURE / "weights_and_lc.json").read_text())


@pytest.fixture(scope="module")
def difficulties(rows):
    return [float(row["instruction_difficulty"]) for row in rows]


@published
def test_published_win_rates_and_standard_errors(rows, expected):
    for model, numbers in expected.items():
        got = win_rate([float(row[f"{model}:preference"]) for row in rows])
        assert got.win_rate == pytest.approx(numbers["win_rate"], abs=1e-9)
        assert got.standard_error == pytest.approx(numbers["standard_error"], abs=1e-9)
        assert (got.num_wins, got.num_losses, got.num_draws) == (
            numbers["n_wins"],
            numbers["n_wins_base"],
            numbers["n_draws"],
        )


@published
def test_published_lc_follows_from_published_weights(weights, difficulties):
    complete = {m: v for m, v in weights.items() if v["n"] == 805 and m not in INCONSISTENT}
    assert len(complete) > 90
    for numbers in complete.values():
        got = predict_lc(Weights(*numbers["w"]), difficulties)
        assert got == pytest.approx(numbers["lc"], abs=1e-6)


@published
def test_the_guard_refuses_what_gave_wrong_published_numbers(weights, difficulties):
    """Rows were missing, and the difficulties of the first so many were taken (of one all were)."""
    cut = {model: v for model, v in weights.items() if v["n"] < 805}
    right = [
        m
        for m, v in cut.items()
        if abs(predict_lc(Weights(*v["w"]), difficulties) - v["lc"]) < 1e-6
    ]
    assert (len(cut), len(right)) == (5, 1)
    for numbers in (v for model, v in cut.items() if model not in right):
        theirs, chance = Weights(*numbers["w"]), 0.0
        for difficulty in difficulties[: numbers["n"]]:
            chance += 1 / (1 + math.exp(-theirs.psi * difficulty - theirs.phi))
        assert 100 * chance / numbers["n"] == pytest.approx(numbers["lc"], abs=1e-6)
        assert predict_lc(theirs, difficulties) != pytest.approx(numbers["lc"], abs=1e-3)
        with pytest.raises(AlignmentError, match="difficulties, AlpacaEval has 805"):
            predict_lc(theirs, difficulties[: numbers["n"]])


INSTRUCTIONS = FIXTURE.parent / "alpaca_eval/gpt4_1106_preview.json"


@pytest.mark.skipif(
    not INSTRUCTIONS.exists(), reason="needs AlpacaEval's records in ../shared/data"
)
def test_outputs_out_of_order_or_missing_are_refused():
    canonical = [record["instruction"] for record in json.loads(INSTRUCTIONS.read_text())]
    check_aligned(canonical)
    for wrong, words in (
        (canonical[:5] + canonical[6:], "row 5, .*, is not AlpacaEval's instruction at that place"),
        (sorted(canonical), "row 0, .*, is not AlpacaEval's"),
        (canonical[:800], "800 rows, AlpacaEval has 805 instructions: .* empty text"),
        ([*canonical, "one more"], "806 rows"),
    ):
        with pytest.raises(AlignmentError, match=words):
            check_aligned(wrong)


def test_other_prompts_are_not_alpaca_evals():
    with pytest.raises(AlignmentError, match="row 0, 'q0', is not"):
        check_aligned([f"q{n}" for n in range(805)])


@pytest.mark.parametrize("bad", [[], [0.5, 1.0], [1.0, math.nan]])
def test_preferences_that_mean_nothing_are_refused(bad):
    with pytest.raises(ValueError, match=r"no preferences|not in"):
        win_rate(bad)


def test_one_preference_has_no_standard_error():
    assert (win_rate([2.0]).win_rate, win_rate([2.0]).standard_error) == (100, None)


@published
def test_lc_noreg_is_the_fit_of_a_library_and_stays_near_the_published(rows, expected):
    baseline = [int(row["len_baseline"]) for row in rows]
    for model in ("FuseChat-Llama-3.1-8B-Instruct", "FuseChat-Qwen-2.5-7B-Instruct", "alpaca-7b"):
        preferences = [float(row[f"{model}:preference"]) for row in rows]
        lengths = [int(row[f"{model}:len"]) for row in rows]
        got = lc_noreg(preferences, lengths, baseline)
        difference = np.array(baseline, dtype=float) - lengths
        x = np.stack([np.tanh(difference / difference.std(ddof=1)), np.ones(805)], axis=1)
        weight = np.concatenate([np.array(preferences) - 1, 2 - np.array(preferences)])
        fit = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10, max_iter=1000)
        fit.fit(np.concatenate([x, x]), [1] * 805 + [0] * 805, sample_weight=weight)
        assert (got.theta, got.phi) == pytest.approx(tuple(fit.coef_[0]), abs=1e-4)
        assert got.low < got.lc_noreg < got.high
        # Another model of the same thing. alpaca-7b writes a fifth of what the baseline writes,
        # so what it would win with longer ones is extrapolated far, and the anchors matter.
        away = abs(got.lc_noreg - expected[model]["length_controlled_winrate"])
        assert away < 5 if model != "alpaca-7b" else 10 < away < 20


def test_an_empty_output_stays_a_loss_whatever_its_length():
    """Lengths say nothing here; of the outputs that are there three fifths win, of all 54%."""
    said = [(2.0 if n % 5 < 3 else 1.0, 90 + n % 21) for n in range(180)]
    preferences, lengths = zip(*said, *[(1.0, 0)] * 20, strict=True)
    baseline = [100 + n % 7 for n in range(200)]
    got = lc_noreg(preferences, lengths, baseline)
    assert got.lc_noreg == pytest.approx(54, abs=1)
    assert got.low < got.lc_noreg < got.high < 90
    # As wide as that of a mean, although the empty ones are no part of the fit.
    plain = 1.96 * win_rate(preferences).standard_error
    assert (got.high - got.low) / 2 == pytest.approx(plain, rel=0.1)
    with pytest.raises(SeparationError, match="no two outputs"):
        lc_noreg([1.0, 1.0], [0, 0], [10, 20])


def test_lc_noreg_takes_a_length_bias_out():
    """Two models of equal skill, a judge that likes length: 50% were lengths equal."""
    generator = random.Random(0)
    lengths = [generator.randrange(100, 2000) for _ in range(4000)]
    baseline = [generator.randrange(100, 800) for _ in range(4000)]
    deviation = np.std(np.array(baseline) - lengths, ddof=1)
    preferences = [
        1.0 + (generator.random() < 1 / (1 + math.exp(-2 * math.tanh((m - b) / deviation))))
        for m, b in zip(lengths, baseline, strict=True)
    ]
    assert win_rate(preferences).win_rate > 65
    got = lc_noreg(preferences, lengths, baseline)
    assert got.low < 50 < got.high
    assert got.theta == pytest.approx(-2, abs=0.2)


@given(st.lists(st.floats(1.01, 1.99), min_size=3, max_size=30))
def test_equal_lengths_leave_the_win_rate(preferences):
    lengths = [7] * len(preferences)
    got = lc_noreg(preferences, lengths, lengths)
    assert got.lc_noreg == pytest.approx(win_rate(preferences).win_rate, abs=1e-6)
    assert got.theta == 0


@pytest.mark.parametrize(("prompts", "losses"), [(300, 4), (100, 5), (24, 4)])
def test_few_losses_still_have_a_rate_and_an_interval(prompts, losses):
    generator = random.Random(prompts)
    preferences = [1.0] * losses + [2.0] * (prompts - losses)
    lengths, baseline = ([generator.randrange(50, 500) for _ in range(prompts)] for _ in range(2))
    got = lc_noreg(preferences, lengths, baseline)
    assert 50 < got.low < got.lc_noreg < got.high < 100


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Wins by chance from a known model, many times."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        lengths, baseline = generator.integers(100, 1000, (2, 200))
        x = np.tanh((baseline - lengths) / (baseline - lengths).std(ddof=1))
        wins = generator.random(200) < 1 / (1 + np.exp(-(0.4 - 1.0 * x)))
        got = lc_noreg(list(1.0 + wins), list(lengths), list(baseline))
        held += got.low < 100 / (1 + math.exp(-0.4)) < got.high
    assert 270 <= held <= 297


def test_what_length_alone_decides_cannot_be_controlled():
    with pytest.raises(SeparationError):
        lc_noreg([1.0, 1.0, 2.0, 2.0], [1, 2, 30, 40], [10, 10, 10, 10])
    with pytest.raises(SeparationError):
        lc_noreg([2.0, 2.0, 2.0], [1, 2, 3], [3, 1, 2])
