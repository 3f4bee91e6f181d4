"""Arena-Hard's win rates against a Bradley-Terry fit of a library."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from avr.evaluation.arena_hard import (
    Battle,
    Style,
    Verdict,
    battle,
    score,
    style_controlled,
    style_of,
)
from avr.evaluation.logistic import SeparationError

VERDICTS = list(Verdict)


def played(seed, prompts=200, skill=0.0):
    """Both battles about each prompt; prompts differ in how well the model does."""
    generator = random.Random(seed)
    battles = []
    for prompt in range(prompts):
        good = generator.gauss(skill, 1)
        for model_is_a in (True, False):
            level = round(2 - generator.gauss(good, 1)) if model_is_a else 0
            level = level if model_is_a else round(2 + generator.gauss(good, 1))
            verdict = VERDICTS[min(4, max(0, level))]
            battles.append(battle(f"p{prompt}", verdict, model_is_a=model_is_a))
    return battles


def test_verdicts_are_seen_from_the_model():
    assert battle("p", Verdict.A_MUCH_BETTER, model_is_a=True) == Battle("p", 1.0, 3)
    assert battle("p", Verdict.A_MUCH_BETTER, model_is_a=False) == Battle("p", 0.0, 3)
    assert battle("p", Verdict.B_BETTER, model_is_a=False) == Battle("p", 1.0, 1)
    assert battle("p", Verdict.TIE, model_is_a=False) == Battle("p", 0.5, 1)


@pytest.mark.parametrize("skill", [-1.0, 0.0, 0.7])
def test_the_win_rate_is_the_bradley_terry_score(skill):
    """Two players, a decisive verdict as three battles, a tie as half a battle each way."""
    battles = played(0, skill=skill)
    sides, labels, weights = [], [], []
    for each in battles:
        for label, part in ((1, each.win), (0, 1 - each.win)):
            sides.append([1.0])
            labels.append(label)
            weights.append(each.weight * part)
    fit = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10).fit(
        sides, labels, sample_weight=weights
    )
    expected = 100 / (1 + np.exp(-fit.coef_[0][0]))
    assert score(battles).win_rate == pytest.approx(expected, abs=1e-3)


def test_the_interval_is_over_prompts_and_wider_than_over_battles():
    battles = played(1)
    ours = score(battles)
    independent = score([Battle(str(row), b.win, b.weight) for row, b in enumerate(battles)])
    assert ours.win_rate == pytest.approx(independent.win_rate)
    assert ours.low < ours.win_rate < ours.high
    assert ours.high - ours.low > 1.1 * (independent.high - independent.low)
    assert (ours.num_prompts, independent.num_prompts) == (200, 400)


@given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=20))
def test_swapping_sides_of_every_battle_mirrors_the_rate(verdicts):
    ours = score([battle(str(n), v, model_is_a=True) for n, v in enumerate(verdicts)])
    theirs = score([battle(str(n), v, model_is_a=False) for n, v in enumerate(verdicts)])
    assert ours.win_rate == pytest.approx(100 - theirs.win_rate)


def test_nothing_played_is_no_score():
    with pytest.raises(ValueError, match="no battles"):
        score([])


def test_style_is_counted_outside_of_code():
    answer = (
        "# Title\n\n- one\n- two\n1. three\n\n**bold** and __bold__\n```\n# no\n- no\n**no**\n```"
    )
    assert style_of(answer) == Style(len(answer), headers=1, lists=3, bolds=2)
    assert style_of("5 * 3 and 2*3*4, # no header") == Style(28, 0, 0, 0)


def test_style_control_takes_out_what_a_judge_gives_for_length():
    generator = random.Random(0)
    ours, baseline, battles = {}, {}, []
    for number in range(1500):
        prompt = f"p{number}"
        ours[prompt] = Style(generator.randrange(500, 2000), generator.randrange(3), 0, 0)
        baseline[prompt] = Style(generator.randrange(500, 1000), 0, 0, 0)
        a, b = ours[prompt].length, baseline[prompt].length
        for model_is_a in (True, False):
            won = generator.random() < 1 / (1 + np.exp(-4 * (a - b) / (a + b)))
            verdict = Verdict.A_BETTER if won == model_is_a else Verdict.B_BETTER
            battles.append(battle(prompt, verdict, model_is_a=model_is_a))
    assert score(battles).low > 60
    for features in (("length",), ("length", "headers", "lists", "bolds")):
        controlled = style_controlled(battles, ours, baseline, features)
        assert controlled.low < 50 < controlled.high
        assert controlled.num_prompts == 1500


def test_style_that_decides_everything_cannot_be_controlled():
    styles = {"a": Style(10, 0, 0, 0), "b": Style(1000, 0, 0, 0)}
    baseline = dict.fromkeys("ab", Style(100, 0, 0, 0))
    with pytest.raises(SeparationError):
        style_controlled([Battle("a", 0.0, 1), Battle("b", 1.0, 1)], styles, baseline)
