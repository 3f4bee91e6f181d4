import json
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import critique, response, tree

from avr.core.messages import content_id, from_dicts, to_dicts, user
from avr.core.prompts import Templates
from avr.core.tree import Level, Prompt, plant, reward_of, tree_from_dict, tree_to_dict
from avr.data.schemas import TREES
from avr.data.tables import read_trees, write_part

messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.text()}
    )
)


@given(messages)
def test_messages_survive_plain_data(dicts):
    assert to_dicts(from_dicts(dicts)) == dicts


@given(st.text(), st.text(), st.floats(allow_nan=False))
def test_tree_survives_json(first, refined, reward):
    one = tree(response(first), critique("c", response(refined, reward)))
    lossy = Level("y", one.levels[0].critiques, 1, 2, 3, "malformed", 4, 5, "too long")
    for each in (one, replace(one, levels=(lossy, lossy)), plant(one.prompt, "nothing grown")):
        assert tree_from_dict(json.loads(json.dumps(tree_to_dict(each)))) == each


def test_bad_messages_are_named_by_turn_and_field():
    with pytest.raises(ValueError, match="turn 1: role is 'bot'"):
        from_dicts([{"role": "user", "content": "x"}, {"role": "bot", "content": "x"}])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("null", "null"),
        ("true", "true or false"),
        ("3", "a number"),
        ("0.5", "a number"),
        ("[]", "a list"),
        ("{}", "an object"),
    ],
)
def test_what_is_no_text_is_named_in_the_words_of_json(value, words):
    with pytest.raises(ValueError, match=f"turn 0: content is {words}, not text"):
        from_dicts([{"role": "user", "content": json.loads(value)}])


def test_what_is_no_message_is_named_too():
    with pytest.raises(ValueError, match="turn 0 is a text, not a role"):
        from_dicts(["hello"])
    with pytest.raises(ValueError, match="turn 0: content is bytes, not text"):
        from_dicts([{"role": "user", "content": b"never from JSON"}])


def test_ids_come_from_content():
    one, two = plant(tree(response("a")).prompt, "r"), plant(tree(response("b")).prompt, "r")
    assert one.id == two.id
    assert plant(one.prompt, "other recipe").id != one.id
    assert content_id("a", ["b"]) != content_id("a", "b")


def test_a_prompt_is_known_by_its_query_alone():
    query = (user("question"),)
    bare, full = Prompt.of(query), Prompt.of(query, "answer", "file:3")
    assert bare == Prompt(full.id, query)
    assert full == Prompt(bare.id, query, "answer", "file:3")


def test_a_tree_costs_its_answers_its_critiques_and_what_was_thrown_away():
    grown = tree(response("a b"), critique("c c c", response("d")), critique("e"))
    (level,) = grown.levels
    twice = replace(grown, levels=(level, replace(level, num_rejected_tokens=100)))
    assert [twice.num_tokens(rounds) for rounds in (0, 1, 2, None)] == [2, 7, 112, 112]


def test_self_refinement_takes_the_last_answer_there_is():
    refined = tree(response("y0"), critique("c", response("y1")))
    assert [refined.after(k).text for k in (0, 1, 2)] == ["y0", "y1", "y1"]


def test_unscored_and_unanswered_are_errors_not_zeros():
    with pytest.raises(ValueError, match="no reward"):
        reward_of(response("a"))
    with pytest.raises(ValueError, match="no response"):
        _ = plant(tree(response("a")).prompt, "r").first


def test_empty_request_templates_are_refused():
    with pytest.raises(ValueError, match="refine_request"):
        Templates(critique_request="x", refine_request=" ")


def test_user_message():
    assert user("x").role == "user"


def test_trees_of_before_refinements_were_left_out_are_read_with_none(tmp_path):
    now = tree_to_dict(tree(response("a", 1.0), critique("c", response("b", 2.0))))
    later = ("num_rejected_tokens", "num_unscored", "unscored_reason")
    (level,) = now["levels"]
    before = {**now, "levels": [{k: v for k, v in level.items() if k not in later}]}
    null = {**now, "levels": [{**level, **dict.fromkeys(later)}]}
    assert tree_from_dict(before) == tree_from_dict(null) == tree_from_dict(now)
    old = pa.schema([_without(f, later) if f.name == "levels" else f for f in TREES])
    write_part(tmp_path / "old", "part", [before], old)
    counted = {**now, "id": "x", "levels": [{**level, "num_unscored": 3, "unscored_reason": "w"}]}
    write_part(tmp_path / "old", "new", [counted], TREES)
    read = {each.id: each for each in read_trees(tmp_path / "old")}
    assert read[now["id"]] == tree_from_dict(now)
    assert read["x"] == tree_from_dict(counted)


def _without(field, names):
    kept = [part for part in field.type.value_type if part.name not in names]
    return pa.field(field.name, pa.list_(pa.struct(kept)))
