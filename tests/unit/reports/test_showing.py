"""What a user sees of trees and training rows, and how one leads to the other."""

from dataclasses import replace

from made_rows import GOOD, pairs_of, rows_of
from scripted import critique, response, tree

from avr.core.messages import user
from avr.core.outputs import Output, open_set, set_to_dict
from avr.core.tree import Level, Prompt, plant, tree_to_dict
from avr.data.schemas import pair_row, rsft_row
from avr.reports.showing import is_about, shown

TREE = tree_to_dict(GOOD)
(ROW,), _ = rows_of(GOOD)
PAIR = next(pair for pairs in pairs_of(GOOD)[0].values() for pair in pairs)


def test_a_tree_is_shown_with_every_text_and_reward_in_order():
    words = shown(TREE)
    places = [words.index(f"  {text}\n") for text in ("question", "first", "weak", "strong")]
    assert places == sorted(places)
    for answer in GOOD.responses():
        assert f"{answer.id}, reward {answer.reward:.2f}\n" in words
    assert "quarantined: too long" in shown(tree_to_dict(replace(GOOD, quarantined="too long")))
    (level,) = GOOD.levels
    unjudged = replace(level, num_unscored=2, unscored_reason="too long for the reward model")
    words = shown(tree_to_dict(replace(GOOD, levels=(unjudged,))))
    assert "2 without a reward, such as: too long for the reward model" in words
    assert "without a reward" not in shown(TREE)


WHOLE_TREE = """\
tree T
user:
  question
quarantined: too long
y0 id-first, reward none
  first
  answer
level of Y
  critique id-weak, rating 5
    weak
    refinement id-a, reward 1.50
      a
    refinement id-b, reward -0.25
      b
  3 malformed, such as: 'no\\nrating'
  2 without a reward, such as: too long to judge
level of Z"""


def test_a_tree_is_laid_out_level_by_level():
    weak = critique("weak", response("a", 1.5), response("b", -0.25))
    grown = tree(replace(response("first\nanswer"), id="id-first"), weak)
    level = Level(
        "Y",
        (weak,),
        3,
        rejected_example="no\nrating",
        num_unscored=2,
        unscored_reason="too long to judge",
    )
    grown = replace(grown, id="T", levels=(level, Level("Z", ())), quarantined="too long")
    assert shown(tree_to_dict(grown)) == WHOLE_TREE
    bare = plant(grown.prompt, "recipe")
    assert shown(tree_to_dict(bare)) == f"tree {bare.id}\nuser:\n  question"


WHOLE_SET = """\
outputs S
user:
  question
quarantined: why
output one, reward 2.00
  <think>hm</think>yes
output two, reward none
  or no
failure bad, reward none
  <think>hm"""


def test_sampled_outputs_are_laid_out_one_by_one():
    one = Output("one", "<think>hm</think>yes", "yes", 0, "stop", 3, reward=2.0)
    two = Output("two", "or no", "or no", 0, "stop", 2)
    bad = Output("bad", "<think>hm", "", 0, "length", 2, "has no end marker")
    found = replace(open_set(Prompt.of((user("question"),)), "recipe"), id="S", quarantined="why")
    found = replace(found, outputs=(one, two), failures=(bad,))
    assert shown(set_to_dict(found)) == WHOLE_SET
    assert "quarantined" not in shown(set_to_dict(replace(found, quarantined="")))


WHOLE_PAIR = """\
pair P, critique, margin 0.50
from T, x
user:
  question
assistant:
  first
user:
  CRITIQUE?
chosen:
  assistant:
    strong
rejected:
  assistant:
    weak"""
WHOLE_ROW = """\
row R, gain +2.00, from T, x
user:
  question
assistant:
  first
user:
  CRITIQUE?
assistant:
  strong
user:
  REFINE?
assistant:
  d"""


def test_training_rows_are_laid_out_as_what_is_learned():
    (pair,) = pairs_of(GOOD)[0]["critique"]
    pair = replace(pair, id="P", margin=0.5, node_ids=("T", "x"))
    assert shown(pair_row(pair)) == WHOLE_PAIR
    assert shown(rsft_row(replace(ROW, id="R", node_ids=("T", "x")))) == WHOLE_ROW


def test_training_rows_are_shown_with_what_they_come_from():
    assert f"gain +2.00, from {GOOD.id}, id-first, id-strong, id-d" in shown(rsft_row(ROW))
    words = shown(pair_row(PAIR))
    assert words.index("chosen:") < words.index("rejected:")
    assert all(id_ in words for id_ in PAIR.node_ids)


def test_a_row_of_another_kind_is_shown_name_by_name():
    assert shown({"id": "x", "messages": [], "chosen": "a"}) == "id: x\nmessages: []\nchosen: a"


def test_a_row_leads_to_its_tree_and_a_tree_to_its_rows():
    for id_ in (GOOD.id, GOOD.prompt.id, "id-strong", "id-d"):
        assert is_about(TREE, id_)
    assert is_about(rsft_row(ROW), GOOD.id) and is_about(rsft_row(ROW), "id-d")
    assert not is_about(TREE, "first") and not is_about(rsft_row(ROW), "id-weak")
