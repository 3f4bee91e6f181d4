"""Pairs of whole outputs: the best and the worst of a prompt, and the next ones where asked."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import TEMPLATES
from whole_outputs import SETS, output

from avr.core.messages import assistant, user
from avr.core.outputs import open_set
from avr.core.tree import Prompt
from avr.rows.funnel import Funnel
from avr.rows.output_pairs import make_malformed_pairs, make_output_pairs
from avr.rows.rules import PROFILES, SWITCHES

WORDY = " ".join(f"the word{i}" for i in range(60))  # honest, but "the" 60 times
MANY_SETS = st.lists(SETS, max_size=5, unique_by=lambda item: item.id)


def outputs_of(*outputs, reference=None, query="question"):
    opened = open_set(Prompt.of((user(query),)), "recipe")
    return replace(opened, outputs=outputs, reference=reference)


def pairs_of(*sets, switches=(), min_margin=0.0, **more):
    funnel = Funnel("")
    pairs = make_output_pairs(
        lambda: sets, TEMPLATES, frozenset(switches), funnel, min_margin, **more
    )
    return list(pairs), funnel


def test_outputs_within_the_least_margin_make_no_pair():
    near = outputs_of(output("a", 1.0), output("b", 2.0))
    far = outputs_of(output("a", 1.0), output("b", 2.5), query="other")
    pairs, funnel = pairs_of(near, far, min_margin=1.0)
    assert [pair.margin for pair in pairs] == [1.5]
    assert funnel.removed["min_margin"] == 1


BEST, MIDDLE, WORST = output("best", 3.0), output("middle", 2.0), output("last", -1.0)


def test_pair_is_the_best_and_the_worst_whole_output():
    item = outputs_of(MIDDLE, WORST, output("tied low", -1.0), BEST, output("tied", 3.0))
    ((pair,), _) = pairs_of(item)
    assert pair.prompt == (user("question"),)
    assert (pair.chosen, pair.rejected) == ((assistant(BEST.text),), (assistant(WORST.text),))
    assert (pair.kind, pair.margin) == ("output", 4.0)
    assert pair.node_ids == (item.id, BEST.id, WORST.id)


LONG, LOOP = output(" ".join(map(str, range(250))), 1.0), output("over and " * 20, 2.0)
CUT, WORDS = output("cut", 2.0, finish="length"), output("word", 2.0, WORDY)


@pytest.mark.parametrize(
    ("rule", "item"),
    [
        ("two_outputs", outputs_of()),
        ("two_outputs", outputs_of(BEST)),
        ("strictly_better", outputs_of(output("a", 1.0), output("b", 1.0))),
        ("different_text", outputs_of(output("a", 2.0), output("a", 1.0, "other"))),
        ("answer_no_longer", outputs_of(LONG, WORST)),
        ("beats_reference", outputs_of(BEST, WORST, reference=3.5)),
        ("beats_reference", outputs_of(BEST, WORST, reference=3.0)),
        ("finished", outputs_of(CUT, WORST)),
        ("no_loop", outputs_of(LOOP, replace(LONG, reward=0.0))),
        ("no_repeated_word", outputs_of(WORDS, WORST)),
    ],
)
def test_each_rule_removes_what_breaks_it_and_nothing_else(rule, item):
    fine = outputs_of(BEST, WORST, reference=2.9, query="other")
    pairs, funnel = pairs_of(fine, item, switches={rule})
    assert [pair.prompt[0].content for pair in pairs] == ["other"]
    assert (funnel.num_in, funnel.num_out, funnel.removed[rule]) == (2, 1, 1)
    assert funnel.examples == {rule: [item.id]}
    switches = PROFILES["outputs"]["recommended"] | {"no_repeated_word"}
    assert len(pairs_of(item, switches=switches - {rule})[0]) == (rule in switches)


def test_rules_look_at_the_chosen_text_only_and_duplicates_at_both():
    bad = output("over and " * 20, -2.0, WORDY, "length")
    twin = replace(outputs_of(BEST, bad), id="twin")
    trio = (outputs_of(BEST, bad), twin, outputs_of(BEST, WORST))
    pairs, funnel = pairs_of(*trio, switches=set(SWITCHES) - {"answer_no_longer"})
    assert [pair.margin for pair in pairs] == [5.0, 4.0]
    assert funnel.examples == {"unique": ["twin"]}
    assert len({pair.id for pair in pairs_of(*trio)[0]}) == 3


def test_outputs_without_rewards_are_not_paired():
    with pytest.raises(ValueError, match="output node has no reward yet"):
        pairs_of(outputs_of(BEST, replace(WORST, id="node", reward=None)))


FIVE = [output(f"answer {reward}", reward) for reward in (3.0, 1.0, 5.0, 2.0, 4.0)]


def test_second_pairs_come_after_the_first_of_all_prompts_up_to_the_most():
    items = [outputs_of(*FIVE, query=query) for query in ("one", "two")]
    pairs, funnel = pairs_of(*items, per_prompt=2)
    found = [(pair.prompt[0].content, pair.margin) for pair in pairs]
    assert found == [("one", 4.0), ("two", 4.0), ("one", 2.0), ("two", 2.0)]
    assert (pairs[2].chosen[0].content, pairs[2].rejected[0].content) == (
        FIVE[4].text,
        FIVE[3].text,
    )
    assert (funnel.num_in, funnel.num_out) == (4, 4)
    for most in (1, 3, 4, 9):
        capped, funnel = pairs_of(*items, per_prompt=2, max_pairs=most)
        assert capped == pairs[:most]
        assert (funnel.num_in, funnel.removed["max_pairs"]) == (4, max(0, 4 - most))


def test_what_a_rule_removes_leaves_room_under_the_most():
    items = [outputs_of(*FIVE[:2], query="one"), outputs_of(*FIVE[:1], query="two")]
    items.append(outputs_of(*FIVE, query="three"))
    pairs, funnel = pairs_of(*items, per_prompt=2, max_pairs=3)
    assert [pair.prompt[0].content for pair in pairs] == ["one", "three", "three"]
    assert (funnel.num_in, funnel.removed["two_outputs"], funnel.removed["max_pairs"]) == (6, 3, 0)


@settings(max_examples=100, deadline=None)
@given(MANY_SETS, st.sampled_from([frozenset(), *PROFILES["outputs"].values()]))
def test_chosen_is_strictly_better_and_all_sets_are_counted(sets, switches):
    pairs, funnel = pairs_of(*sets, switches=switches)
    assert funnel.num_in == len(sets) == funnel.num_out + sum(funnel.removed.values())
    assert funnel.num_out == len(pairs) == len({pair.id for pair in pairs})
    for pair in pairs:
        item = next(item for item in sets if item.id == pair.node_ids[0])
        outputs = {o.id: o for o in item.outputs}
        best, worst = (outputs[node] for node in pair.node_ids[1:])
        rewards = {o.reward for o in item.outputs}
        assert (best.reward, worst.reward) == (max(rewards), min(rewards))
        assert pair.margin == best.reward - worst.reward > 0
        assert (pair.chosen, pair.rejected) == ((assistant(best.text),), (assistant(worst.text),))
        assert pair.chosen != pair.rejected
        assert "answer_no_longer" not in switches or len(best.answer) <= len(worst.answer)
        if "beats_reference" in switches and item.reference is not None:
            assert best.reward > item.reference


@settings(max_examples=100, deadline=None)
@given(MANY_SETS, st.integers(1, 3), st.none() | st.integers(1, 6))
def test_no_output_is_in_two_pairs_and_more_pairs_only_add(sets, per_prompt, most):
    first, _ = pairs_of(*sets)
    pairs, funnel = pairs_of(*sets, per_prompt=per_prompt, max_pairs=most)
    assert funnel.num_in == len(sets) * per_prompt == len(pairs) + sum(funnel.removed.values())
    assert len(pairs) <= (most or len(pairs))
    assert pairs[: len(first)] == first[:most]
    nodes = [(pair.node_ids[0], node) for pair in pairs for node in pair.node_ids[1:]]
    assert len(nodes) == len(set(nodes))
    assert all(pair.margin > 0 and pair.chosen != pair.rejected for pair in pairs)


def malformed_pairs_of(*sets, switches=(), share=0.5, num_others=2):
    funnel = Funnel("malformed")
    pairs = make_malformed_pairs(
        sets, TEMPLATES, frozenset(switches), funnel, share=share, num_others=num_others
    )
    return list(pairs), funnel


ENDLESS = replace(output("", None, finish="length"), id="endless", failure="has no end marker")
UNJUDGED = replace(ENDLESS, id="unjudged", failure="cannot be judged: 4097 > 4096")


def with_failures(*failures, outputs=(MIDDLE, BEST, WORST), **more):
    return replace(outputs_of(*outputs, **more), failures=failures)


def test_the_best_output_is_preferred_to_the_first_malformed_one():
    silent = replace(ENDLESS, id="silent", text=" ")  # no text to train on
    item = with_failures(UNJUDGED, silent, ENDLESS, replace(ENDLESS, id="later"))
    ((pair,), _) = malformed_pairs_of(item)
    assert (pair.kind, pair.margin) == ("malformed", 0.0)
    assert pair.node_ids == (item.id, BEST.id, "endless")
    assert (pair.chosen, pair.rejected) == ((assistant(BEST.text),), (assistant(ENDLESS.text),))


@pytest.mark.parametrize(
    ("rule", "item"),
    [
        ("malformed_output", with_failures()),
        ("malformed_output", with_failures(UNJUDGED)),
        ("malformed_output", with_failures(replace(ENDLESS, text="\n"))),
        ("malformed_output", with_failures(ENDLESS, outputs=())),
        ("beats_reference", with_failures(ENDLESS, reference=3.0)),
        ("finished", with_failures(ENDLESS, outputs=(CUT,))),
        ("no_loop", with_failures(ENDLESS, outputs=(LOOP,))),
        ("no_repeated_word", with_failures(ENDLESS, outputs=(WORDS,))),
    ],
)
def test_each_rule_of_malformed_pairs_removes_what_breaks_it(rule, item):
    pairs, funnel = malformed_pairs_of(item, switches={rule})
    assert (pairs, funnel.removed[rule], funnel.examples) == ([], 1, {rule: [item.id]})
    others = (PROFILES["outputs"]["recommended"] | {"no_repeated_word"}) - {rule}
    assert len(malformed_pairs_of(item, switches=others)[0]) == (rule != "malformed_output")


@pytest.mark.parametrize(
    ("share", "num_others", "num_made"), [(0.0, 9, 0), (0.1, 8, 0), (0.1, 9, 1), (0.5, 2, 2)]
)
def test_malformed_pairs_are_at_most_their_share_of_all(share, num_others, num_made):
    items = [with_failures(ENDLESS, query=str(n)) for n in range(4)]
    pairs, funnel = malformed_pairs_of(*items, share=share, num_others=num_others)
    assert len(pairs) == num_made
    assert funnel.removed["malformed_share"] == 4 - num_made
