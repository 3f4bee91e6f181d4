"""The table's numbers: wins, intervals clustered by prompt, right to wrong, orderings."""

from dataclasses import astuple, replace
from itertools import chain
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avr.evaluation.standing import Answered, Claim, by_row, ordering, standing

PROMPTS = [f"p{n}" for n in range(40)]


def answered(row, prompt, quality, reward=0.0, text="an answer", replication="0", **more):
    more = {"num_tokens": 10, "failed": False} | more
    return Answered(row, prompt, text, reward, quality, replication=replication, **more)


def row_of(name, qualities, **more):
    return [answered(name, p, q, **more) for p, q in zip(PROMPTS, qualities, strict=False)]


def test_a_row_against_itself_draws_every_time():
    base = row_of("seed", [n / 40 for n in range(40)])
    one = standing(base, base, right=0.5)
    assert one.win_rate.mean == one.reward_win_rate.mean == 50
    assert (one.win_rate.low, one.win_rate.high, one.gain.mean) == (50, 50, 0)


def test_wins_draws_and_losses():
    base = row_of("seed", [0.5] * 4)
    ours = row_of("ours", [0.6, 0.5, 0.4, 0.9])
    one = standing(ours, base, right=1.0)
    assert one.win_rate.mean == pytest.approx(100 * (1 + 0.5 + 0 + 1) / 4)
    assert one.gain.mean == pytest.approx(0.1)


def test_an_answer_that_is_not_there_loses_whatever_the_oracle_makes_of_it():
    base = row_of("seed", [0.2] * 2)
    ours = [answered("ours", "p0", 0.9, reward=5.0, text=" "), answered("ours", "p1", 0.9, 1.0)]
    one = standing(ours, base, right=1.0)
    assert one.win_rate.mean == one.reward_win_rate.mean == 50
    assert standing([ours[0]], [answered("seed", "p0", 0.2, text="")], 1.0).win_rate.mean == 50


def test_right_to_wrong_is_of_what_the_draft_had_right():
    base = row_of("seed", [1.0, 1.0, 0.0, 0.0])
    drafts = [1.0, 1.0, 1.0, 0.3]
    ours = [
        answered("ours", p, quality, draft_quality=draft)
        for p, quality, draft in zip(PROMPTS, [1.0, 0.9, 0.2, 1.0], drafts, strict=False)
    ]
    one = standing(ours, base, right=1.0)
    assert one.right_to_wrong == pytest.approx(200 / 3) and one.wrong_to_right == 100
    assert (one.num_right, one.num_wrong) == (3, 1)
    assert standing(ours, base, right=0.9).right_to_wrong == pytest.approx(100 / 3)
    plain = standing(row_of("ours", [1.0, 0.9, 0.2, 1.0]), base, right=1.0)
    assert (plain.right_to_wrong, plain.wrong_to_right) == (None, None)


def test_replications_are_paired_with_their_own_baseline_and_clustered_by_prompt():
    """The same answers three times over say no more than once."""
    qualities = [(7 * n % 40) / 40 for n in range(40)]
    once = [row_of("seed", [0.5] * 40), row_of("ours", qualities)]
    thrice = [
        [answered(a.row, a.prompt, a.quality, replication=str(r)) for r in range(3) for a in row]
        for row in once
    ]
    one, three = (standing(ours, base, right=1.0) for base, ours in (once, thrice))
    assert three.num_answers == 3 * one.num_answers == 120
    for ours, theirs in ((three.win_rate, one.win_rate), (three.gain, one.gain)):
        assert astuple(ours) == pytest.approx(astuple(theirs))
    unclustered = standing(
        [answered("ours", f"{a.prompt}-{a.replication}", a.quality) for a in thrice[1]],
        [answered("seed", f"{a.prompt}-{a.replication}", a.quality) for a in thrice[0]],
        right=1.0,
    )
    width, narrow = (o.win_rate.high - o.win_rate.low for o in (three, unclustered))
    assert narrow < 0.7 * width
    other = [answered("ours", "p0", 1.0, replication="9")]
    with pytest.raises(ValueError, match="no prompt was answered by both"):
        standing(other, thrice[0], right=1.0)


def test_length_control_clusters_too():
    base = [answered("seed", p, 0.5, text="x" * 50) for p in PROMPTS]
    ours = [
        answered("ours", p, 0.9 if n % 3 else 0.1, text="x" * (47 + n % 7))
        for n, p in enumerate(PROMPTS)
    ]
    several = [
        [answered(a.row, a.prompt, a.quality, text=a.text, replication=str(r)) for a in row]
        for r in range(4)
        for row in (ours, base)
    ]
    once = standing(ours, base, right=1.0).lc_win_rate
    four = standing(chain(*several[0::2]), chain(*several[1::2]), right=1.0).lc_win_rate
    # Not to the last digit: the spread of 160 lengths is that of 40 but for a degree of freedom.
    for name in ("lc_noreg", "low", "high"):
        assert getattr(four, name) == pytest.approx(getattr(once, name), rel=1e-3)
    assert 50 < once.lc_noreg < 80 and once.high - once.low > 20


def test_lengths_that_tell_who_wins_leave_no_length_controlled_rate():
    base = row_of("seed", [0.1] * 10)
    assert standing(row_of("ours", [0.9] * 10), base, right=1.0).lc_win_rate is None


def test_without_an_oracle_rewards_are_what_there_is():
    base = row_of("seed", [None] * 10, reward=0.0)
    ours = row_of("ours", [None] * 10, reward=1.0, num_tokens=30, failed=True)
    one = standing(ours, base, right=1.0)
    assert (one.reward_win_rate.mean, one.reward.mean, one.tokens, one.failures) == (
        100,
        1,
        30,
        100,
    )
    nothing = (one.quality, one.gain, one.win_rate, one.lc_win_rate, one.right_to_wrong)
    assert nothing == (None,) * 5
    claim = ordering("seed < ours", {"seed": base, "ours": ours})
    assert (claim.difference.mean, claim.verdict) == (1, "holds")


def test_orderings_hold_fail_or_stay_undecided():
    rows = {
        "low": row_of("low", [0.2] * 40),
        "high": row_of("high", [0.4] * 40),
        "wild": row_of("wild", [0.0 if n % 2 else 0.4 for n in range(40)]),
    }
    verdicts = [ordering(c, rows).verdict for c in ("low < high", "high < low", "low < wild")]
    assert verdicts == ["holds", "fails", "undecided"]
    with pytest.raises(ValueError, match="no row 'other'; there are low, high, wild"):
        ordering("low < other", rows)


def test_a_claim_about_characters_compares_answers_that_are_there():
    long, short = row_of("long", [0.5] * 4), row_of("short", [0.5] * 4)
    long = [replace(a, text="x" * (10 + n)) for n, a in enumerate(long)]
    short = [replace(a, text="x" * (7 + n) if n else " ") for n, a in enumerate(short)]
    claim = ordering("short < long by characters", {"long": long, "short": short})
    assert (claim.difference.mean, claim.verdict) == (3, "holds")
    assert str(claim.claim) == "short < long by characters"
    assert ordering("short < long", {"long": long, "short": short}).difference.mean == 0


@pytest.mark.parametrize("text", ["long", "a < b < c", " < b", "a < b by words", "a < b by "])
def test_what_is_no_claim_is_refused(text):
    with pytest.raises(ValueError, match=r"is not of the form|there are quality, characters"):
        Claim.parsed(text)


def test_an_ordering_holds_only_where_every_replication_says_so():
    low = [answered("low", p, 0.5, replication=r) for r in "01" for p in PROMPTS]
    high = [
        answered("high", p, {"0": 0.9, "1": 0.45}[r], replication=r) for r in "01" for p in PROMPTS
    ]
    claim = ordering("low < high", {"low": low, "high": high})
    assert claim.by_replication == pytest.approx({"0": 0.4, "1": -0.05})
    assert standing(high, low, 0.8).by_replication == pytest.approx({"0": 0.9, "1": 0.45})
    assert claim.difference.low > 0 and claim.verdict == "undecided"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.randoms())
def test_the_order_of_answers_does_not_matter(qualities, random):
    base, ours = row_of("seed", [0.5] * len(qualities)), row_of("ours", qualities)
    shuffled = list(base)
    random.shuffle(shuffled)
    assert standing(ours, shuffled, 1.0) == standing(ours, base, 1.0)
    assert standing(ours, base, 1.0).quality.mean == pytest.approx(fmean(qualities))


def test_rows_come_in_the_order_of_their_first_answers():
    answers = [answered("b", "p0", 1.0), answered("a", "p0", 1.0), answered("b", "p1", 1.0)]
    assert [(name, len(found)) for name, found in by_row(answers).items()] == [("b", 2), ("a", 1)]
