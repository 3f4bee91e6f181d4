"""Every rule of RSFT rows and of preference pairs of trees: what it removes, and nothing else.

Each case breaks one rule. It fails where that rule lets everything through.
"""

from dataclasses import replace

import pytest
from scripted import TEMPLATES, critique, response, tree

from avr.core.growth import Shape
from avr.core.tree import Verdict
from avr.rows.funnel import Funnel
from avr.rows.refinements import select_rsft
from avr.rows.row import KINDS
from avr.rows.rules import rules_of
from avr.rows.tree_pairs import make_pairs

TELLING = "As in the correct solution, it is 4."
LINE = "She sold 48 / 2 = 24 clips in May."
SEEING = Shape(sees="reference")
LOOPING = "a good start then " + "over and " * 20
WORDY = " ".join(f"a {b}{c}" for b in "bcdefghi" for c in "jklmnopq")  # honest, but "a" 64 times
LONG = " ".join(f"w{number}" for number in range(100, 220))  # 599 characters
ALL = {rows: rules_of(rows) - {"plain_rows"} for rows in ("rsft", "pairs")}


def grown(cut="", y0_reward=1.0, query="question", **texts):
    """A tree whose three kinds of pair are all made under every rule, but for what is said.

    steady has the highest mean (best, worse), lucky the best refinement of the tree (top). `cut`
    names the text that met its token limit; `texts` replace some.
    """
    rewards = {"y0": y0_reward, "top": 5.0, "low": -9.0, "best": 3.0, "worse": 1.5}
    said = {name: name for name in (*rewards, "lucky", "steady")} | texts

    def answer(name):
        return response(said[name], rewards[name], "length" if name == cut else "stop")

    def critique_of(name, *refinements):
        finish = "length" if name == cut else "stop"
        return critique(said[name], *map(answer, refinements), finish=finish)

    lucky, steady = critique_of("lucky", "top", "low"), critique_of("steady", "worse", "best")
    return tree(answer("y0"), lucky, steady, query=query)


def funnels_of(*trees, switches):
    funnels = {kind: Funnel(kind) for kind in KINDS}
    made = list(make_pairs(trees, TEMPLATES, switches, funnels, 0.0, SEEING))
    return {kind: [pair for pair in made if pair.kind == kind] for kind in KINDS}, funnels


def test_the_tree_that_breaks_nothing_gives_a_pair_of_each_kind_under_all_rules():
    pairs, _ = funnels_of(grown(), switches=ALL["pairs"])
    sides = {
        kind: (found.chosen[0].content, found.rejected[0].content)
        for kind, (found,) in pairs.items()
    }
    assert sides == {
        "generation": ("top", "y0"),
        "critique": ("steady", "lucky"),
        "refinement": ("best", "worse"),
    }


# The texts of a pair that are read or learned, and those that are rejected.
READ = {
    "generation": ("top",),
    "critique": ("y0", "steady"),
    "refinement": ("y0", "steady", "best"),
}
REJECTED = {"generation": "y0", "critique": "lucky", "refinement": "worse"}
# What the released scripts look at: y0 and the best refinement of the tree, besides the pair's own.
RELEASED_READ = {
    "generation": ("y0", "top"),
    "critique": ("y0", "top", "steady", "lucky"),
    "refinement": ("y0", "top", "steady", "best", "worse"),
}
one_critique = tree(
    response("y0", 1.0), critique("only", response("worse", 1.5), response("best", 3.0))
)
equal_means = tree(
    response("y0", 1.0),
    critique("a", response("worse", 1.5), response("best", 3.0)),
    critique("b", response("also worse", 1.5), response("also best", 3.0)),
)


@pytest.mark.parametrize(
    ("kind", "rule", "broken"),
    [
        *((kind, "finished", grown(cut=part)) for kind in KINDS for part in READ[kind]),
        *((kind, "no_loop", grown(**{part: LOOPING})) for kind in KINDS for part in READ[kind]),
        *(
            (kind, "discreet", grown(**{part: TELLING}))
            for kind in KINDS
            for part in READ[kind]
            if part != "y0"
        ),
        *(
            (kind, "no_repeated_word", grown(**{part: WORDY}))
            for kind in KINDS
            for part in RELEASED_READ[kind]
        ),
        *((kind, "length_control", grown(**{READ[kind][-1]: LONG})) for kind in KINDS),
        ("critique", "tree_gains", grown(y0_reward=5.0)),
        ("refinement", "tree_gains", grown(y0_reward=5.0)),
        ("critique", "best_group_keeps_up", grown(y0_reward=3.1)),
        ("refinement", "chosen_keeps_up", grown(y0_reward=3.1)),
        ("refinement", "rejected_no_tie", grown(y0_reward=1.5)),
        ("refinement", "with_critique_pair", one_critique),
        ("refinement", "with_critique_pair", equal_means),
    ],
)
def test_each_rule_of_pairs_removes_what_breaks_it_and_nothing_else(kind, rule, broken):
    pairs, funnels = funnels_of(broken, grown(query="other"), switches=frozenset({rule}))
    assert [pair.prompt[0].content for pair in pairs[kind]] == ["other"]
    assert funnels[kind].removed[rule] == 1
    assert funnels[kind].examples == {rule: [broken.id]}
    also = {"tree_gains": {"best_group_keeps_up", "chosen_keeps_up"}}.get(rule, set())
    pairs, _ = funnels_of(broken, switches=ALL["pairs"] - {rule} - also)
    assert len(pairs[kind]) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_rejected_may_be_cut_off_or_loop(kind):
    rejected = REJECTED[kind]
    for broken in (grown(cut=rejected), grown(**{rejected: LOOPING})):
        pairs, _ = funnels_of(broken, switches=frozenset({"finished", "no_loop"}))
        assert len(pairs[kind]) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_that_was_made_before_is_not_made_again(kind):
    pairs, funnels = funnels_of(grown(), grown(), switches=ALL["pairs"])
    assert (len(pairs[kind]), funnels[kind].removed["unique"]) == (1, 1)
    assert len(funnels_of(grown(), grown(), switches=ALL["pairs"] - {"unique"})[0][kind]) == 2
    others = funnels_of(grown(), grown(query="other"), switches=ALL["pairs"])[0]
    assert len(others[kind]) == 2


def test_a_text_no_worse_than_y0_is_good_enough_to_be_chosen():
    tie = grown(y0_reward=3.0)
    pairs, _ = funnels_of(tie, switches=frozenset({"best_group_keeps_up", "chosen_keeps_up"}))
    assert [len(pairs[kind]) for kind in ("critique", "refinement")] == [1, 1]


@pytest.mark.parametrize(
    ("kind", "rule", "broken"),
    [
        *((kind, "has_refinement", tree(response("y0", 1.0))) for kind in KINDS),
        *((kind, "has_refinement", tree(response("y0", 1.0), critique("c"))) for kind in KINDS),
        ("critique", "two_critiques", one_critique),
        ("critique", "strictly_better", equal_means),
        ("generation", "strictly_better", grown(y0_reward=5.0)),
        (
            "refinement",
            "two_refinements",
            tree(response("y0", 1.0), critique("c", response("r", 2.0))),
        ),
        (
            "refinement",
            "strictly_better",
            tree(response("y0", 1.0), critique("c", response("r", 2.0), response("s", 2.0))),
        ),
        ("generation", "different_text", grown(top=" y0\n")),
        ("critique", "different_text", grown(lucky="steady\n")),
        ("refinement", "different_text", grown(worse=" best")),
    ],
)
def test_each_condition_of_a_pair_removes_by_its_name(kind, rule, broken):
    pairs, funnels = funnels_of(broken, switches=frozenset())
    assert (pairs[kind], funnels[kind].removed[rule]) == ([], 1)


def test_any_gain_of_the_tree_is_one():
    pairs, _ = funnels_of(grown(y0_reward=4.5), switches=frozenset({"tree_gains"}))
    assert len(pairs["critique"]) == 1


def test_a_pair_is_known_by_its_own_context_and_no_more():
    twins = (grown(), grown(lucky="another", steady="one more"))
    pairs, funnels = funnels_of(*twins, switches=frozenset({"unique"}))
    assert (len(pairs["generation"]), funnels["generation"].removed["unique"]) == (1, 1)
    assert (len(pairs["critique"]), len(pairs["refinement"])) == (2, 2)


def test_a_funnel_shows_the_first_three_that_a_rule_removed():
    trees = [grown(y0_reward=5.0, query=str(n)) for n in range(5)]
    funnel = funnels_of(*trees, switches=frozenset())[1]["generation"]
    assert funnel.to_dict() == {
        "name": "generation",
        "in": 5,
        "out": 0,
        "removed": {
            "has_refinement": 0,
            "strictly_better": 5,
            "min_margin": 0,
            "different_text": 0,
        },
        "examples": {"strictly_better": [tree.id for tree in trees[:3]]},
    }


PARTS = ("y0", "lucky", "top")


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        *(("finished", grown(cut=part)) for part in PARTS),
        *(("no_loop", grown(**{part: LOOPING})) for part in PARTS),
        *(("discreet", grown(**{part: TELLING})) for part in PARTS[1:]),
        *(("no_repeated_word", grown(**{part: WORDY})) for part in PARTS),
        ("length_control", grown(top=LONG)),
    ],
)
def test_each_rule_of_rsft_rows_removes_what_breaks_it_and_nothing_else(rule, broken):
    funnel, rest = Funnel(""), Funnel("")
    trees = [broken, grown(query="other")]
    rows = list(select_rsft(trees, TEMPLATES, frozenset({rule}), funnel, shape=SEEING))
    assert [row.messages[0].content for row in rows] == ["other"]
    assert (funnel.removed[rule], funnel.examples) == (1, {rule: [broken.id]})
    others = ALL["rsft"] - {rule}
    assert len(list(select_rsft([broken], TEMPLATES, others, rest, shape=SEEING))) == 1


@pytest.mark.parametrize(
    ("sees", "quotes", "y0", "kept"),
    [
        ("reference", True, "wrong", False),
        ("reference", False, "wrong", True),
        ("reference", True, f"So {LINE}", True),  # the policy wrote it first
        ("feedback", True, "wrong", True),  # nobody was shown the line
        ("nothing", True, "wrong", True),
    ],
)
def test_a_quote_of_what_only_the_corrector_saw_makes_no_row(sees, quotes, y0, kept):
    made = grown(y0=y0, lucky=f"It is wrong:  {LINE}" if quotes else "It is wrong.")
    made = replace(made, prompt=replace(made.prompt, reference=f"{LINE}\n#### 72"))
    discreet = frozenset({"discreet"})
    rows = select_rsft([made], TEMPLATES, discreet, Funnel(""), shape=Shape(sees=sees))
    assert len(list(rows)) == kept


def test_words_about_a_solution_are_no_fault_where_the_corrector_saw_nothing():
    for sees, number in (("nothing", 1), ("feedback", 0), ("reference", 0)):
        trees, shape = [grown(lucky=TELLING)], Shape(sees=sees)
        rows = select_rsft(trees, TEMPLATES, frozenset({"discreet"}), Funnel(""), shape=shape)
        assert len(list(rows)) == number


def judged(answer, reward):
    return replace(answer, verdicts=(Verdict("maths", reward),))


@pytest.mark.parametrize("reward", [0.0, 1.0])
@pytest.mark.parametrize("truth", ["", "maths"])
def test_praise_of_a_wrong_answer_makes_no_row(reward, truth):
    praise = "Your solution is correct."
    broken = grown(lucky=praise, steady=f"{praise} Well done.")
    broken = replace(broken, response=judged(broken.first, reward))
    kept = reward == 1.0 or not truth
    switches, shape = frozenset({"sees_fault"}), Shape(truth=truth)
    rows = select_rsft([broken], TEMPLATES, switches, Funnel(""), shape=shape)
    assert len(list(rows)) == kept
    funnels = {kind: Funnel(kind) for kind in KINDS}
    kinds = {pair.kind for pair in make_pairs([broken], TEMPLATES, switches, funnels, 0.0, shape)}
    assert kinds == ({*KINDS} if kept else {"generation"})
