"""Selection and pairs: the conditions of the method, and properties over random trees."""

from hypothesis import given, settings
from hypothesis import strategies as st
from made_rows import GOOD, pairs_of, rows_of
from scripted import critique, response, tree

from avr.rows import filters
from avr.rows.row import KINDS
from avr.rows.rules import PROFILES, SWITCHES, switched_on


def test_rsft_row_is_the_whole_conversation_of_the_best_refinement():
    (row,), funnel = rows_of(GOOD)
    said = [m.content for m in row.messages]
    assert said == ["question", "first", "CRITIQUE?", "strong", "REFINE?", "d"]
    assert row.gain == 2.0
    assert row.node_ids == (GOOD.id, "id-first", "id-strong", "id-d")
    assert (funnel.num_in, funnel.num_out) == (1, 1)


def test_tree_that_did_not_improve_is_removed_by_name():
    tie = tree(response("first", 1.0), critique("c", response("a", 1.0)))
    rows, funnel = rows_of(tie, tree(response("alone", 1.0)))
    assert rows == []
    assert funnel.removed == {"has_refinement": 1, "positive_gain": 1, "kept_share": 0}
    assert funnel.examples["positive_gain"] == [tie.id]


def test_length_control_is_released_rule():
    short, long = "x" * 100, "y" * 501
    much_longer = tree(response(short, 0.0), critique("c", response(long, 1.0)))
    assert len(rows_of(much_longer)[0]) == 1
    assert rows_of(much_longer, switches=frozenset({"length_control"}))[0] == []
    assert filters.passes_length_control("y" * 499, short)
    assert not filters.passes_length_control("y" * 500, short)
    assert filters.passes_length_control("y" * 4799, "x" * 4000)
    assert not filters.passes_length_control("y" * 4800, "x" * 4000)


def test_cut_off_texts_are_not_learned_from():
    cut = tree(response("first", 0.0), critique("c", response("a", 1.0, finish="length")))
    assert rows_of(cut, switches=frozenset({"finished"}))[1].removed["finished"] == 1


def test_plain_rows_come_from_unused_prompts_with_an_answer():
    unused = tree(response("y", 1.0), answer="reference", query="other")
    rows, funnel = rows_of(GOOD, unused, switches=frozenset({"plain_rows"}))
    assert [m.content for m in rows[1].messages] == ["other", "reference"]
    assert (rows[1].node_ids, rows[1].gain) == ((unused.id,), 0.0)
    assert (funnel.num_in, funnel.num_out, len(rows)) == (2, 1, 2)


def test_exact_duplicate_rows_are_removed():
    _, funnel = rows_of(GOOD, GOOD, switches=frozenset({"unique"}))
    assert funnel.removed["unique"] == 1


def test_pairs_of_the_three_kinds():
    pairs, _ = pairs_of(GOOD)
    (generation,), (crit,), (refinement,) = pairs.values()
    said = [m.content for m in refinement.prompt]
    assert (generation.chosen[0].content, generation.rejected[0].content) == ("d", "first")
    assert [m.content for m in generation.prompt] == ["question"]
    assert (crit.chosen[0].content, crit.rejected[0].content) == ("strong", "weak")
    assert [m.content for m in crit.prompt] == ["question", "first", "CRITIQUE?"]
    assert crit.margin == (1.2 + 3.0) / 2 - (0.5 + 1.5) / 2
    assert (refinement.chosen[0].content, refinement.rejected[0].content) == ("d", "c")
    assert said == ["question", "first", "CRITIQUE?", "strong", "REFINE?"]
    assert generation.node_ids == (GOOD.id, "id-d", "id-first")
    assert crit.node_ids == (GOOD.id, "id-first", "id-strong", "id-weak")
    assert refinement.node_ids == (GOOD.id, "id-first", "id-strong", "id-d", "id-c")


def test_pairs_within_the_least_margin_are_removed_by_name():
    pairs, funnels = pairs_of(GOOD, min_margin=1.8)  # margins 2.0, 1.1 and 1.8
    assert [len(pairs[kind]) for kind in ("generation", "critique", "refinement")] == [1, 0, 0]
    assert [funnels[kind].removed.get("min_margin", 0) for kind in KINDS] == [0, 1, 1]
    assert [len(kept) for kept in pairs_of(GOOD, min_margin=1.0)[0].values()] == [1, 1, 1]
    pairs, funnels = pairs_of(GOOD, min_margin=2.0)
    assert [len(pairs[kind]) for kind in KINDS] == [0, 0, 0]
    assert [funnels[kind].removed["min_margin"] for kind in KINDS] == [1, 1, 1]


def test_loops_are_found_and_long_honest_texts_are_not():
    honest = " ".join(f"the word{i}" for i in range(200))
    assert filters.no_loop(honest)
    assert not filters.no_repeated_word(honest)  # the released rule is a hidden length cap
    assert not filters.no_loop("a good start then " + "over and " * 20)
    assert not filters.no_loop("start " + "x " * 40)
    assert filters.no_loop("ha ha ha")
    assert filters.no_loop("很好。" * 50) and not filters.no_loop("很好。" * 100)
    assert filters.no_loop("-" * 80) and not filters.no_loop("an answer\n" + "=" * 300)
    assert filters.no_loop("=" * 300 + " end")
    sentence = " ".join(f"w{i}" for i in range(20)) + " "
    assert not filters.no_loop("It began. " + sentence * 4)
    assert filters.no_loop("It began. " + sentence * 3)
    longest = " ".join(f"w{i}" for i in range(64)) + " "
    assert not filters.no_loop(longest * 4)
    assert filters.no_loop(("x " + longest) * 4)
    assert not filters.no_loop("x " * 24)
    assert filters.no_loop("x " * 23)


def test_every_profile_names_known_rules_and_switches_override():
    for profiles in PROFILES.values():
        assert all(rules <= set(SWITCHES) for rules in profiles.values())
    assert "no_loop" not in switched_on("rsft", "recommended", {"no_loop": False})
    assert switched_on("pairs", "as_paper", {"unique": True}) == {"unique"}


texts = st.text(alphabet="ab ", min_size=1, max_size=6)
rewards = st.integers(-2, 2).map(float)
responses = st.builds(response, texts, rewards, st.sampled_from(["stop", "length"]))
trees = st.builds(
    lambda first, groups, query: tree(
        first, *(critique(text, *refined) for text, refined in groups), query=query
    ),
    responses,
    st.lists(st.tuples(texts, st.lists(responses, max_size=3)), max_size=3),
    texts,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(trees, max_size=8), st.sampled_from(["as_released", "as_paper", "recommended"]))
def test_every_kept_row_gains_and_every_pair_differs(grown, profile):
    rows, funnel = rows_of(*grown, switches=switched_on("rsft", profile, {}))
    assert all(row.gain > 0 for row in rows)
    assert funnel.num_in == len(grown) == funnel.num_out + sum(funnel.removed.values())
    pairs, funnels = pairs_of(*grown, switches=switched_on("pairs", profile, {}))
    for kind in KINDS:
        for pair in pairs[kind]:
            assert pair.chosen != pair.rejected
            assert pair.margin > 0
        one = funnels[kind]
        assert one.num_in == len(grown) == one.num_out + sum(one.removed.values())
        assert one.num_out == len(pairs[kind])
