"""From trees and outputs to one answer a prompt and row of the table."""

from dataclasses import replace

import pytest
from scripted import critique, response, tree

from avr.config.answers import Mode
from avr.config.errors import ConfigError
from avr.config.table import EntrantConfig, TableConfig
from avr.core.messages import user
from avr.core.outputs import Output, open_set
from avr.core.trajectory import TRAJECTORY_TEMPLATES, Trajectory, render_trajectory
from avr.core.tree import Level, Prompt, Verdict
from avr.reports.final_answers import baseline_row, final_answers, in_order, rows_of

REFINED = tree(response("first one", 1.0), critique("k", response("better", 2.0)))
ENDED = replace(tree(response("alone", 0.5), query="other"), levels=(Level("id-alone", ()),))


def config_of(**entrants):
    return TableConfig(run_dir="r", baseline=next(iter(entrants)), entrants=entrants)


def output(text, reward, tokens, failure=""):
    answer = "" if failure else text
    return Output(f"id-{text}", text, answer, 0, "stop", tokens, failure, reward)


def set_of(*outputs, failures=(), query="question"):
    opened = open_set(Prompt.of((user(query),)), "recipe")
    return replace(opened, outputs=outputs, failures=failures)


def length_of(prompt, text, verdicts):
    return len(text)


def found(config, trees=(), sets=(), quality=length_of):
    pairs = final_answers(config, lambda _: iter(trees), lambda _: iter(sets), quality)
    return [answer for _, answer in pairs]


def test_a_refining_entrant_fills_a_row_for_each_round():
    entrant = EntrantConfig(mode=Mode.refine, rounds=1)
    assert rows_of("dpo", entrant) == ["dpo r0", "dpo r1"]
    answers = found(config_of(dpo=entrant), [REFINED, ENDED])
    rows = [(a.row, a.text, a.reward, a.quality, a.num_tokens, a.failed) for a in answers]
    assert rows == [
        ("dpo r0", "first one", 1.0, 9, 2, False),
        ("dpo r1", "better", 2.0, 6, 4, False),
        ("dpo r0", "alone", 0.5, 5, 1, False),
        ("dpo r1", "alone", 0.5, 5, 1, True),
    ]


def test_samples_that_were_thrown_away_were_paid_for():
    level = replace(REFINED.levels[0], num_rejected_tokens=100)
    grown = replace(REFINED, levels=(level,))
    answers = found(config_of(dpo=EntrantConfig(mode=Mode.refine, rounds=1)), [grown])
    assert [answer.num_tokens for answer in answers] == [2, 104]
    assert (grown.num_tokens(0), grown.num_tokens()) == (2, 104)


def test_the_draft_of_a_refined_answer_is_known_by_its_quality():
    config = config_of(dpo=EntrantConfig(mode=Mode.refine, rounds=1))
    assert [a.draft_quality for a in found(config, [REFINED])] == [None, 9]
    think = TRAJECTORY_TEMPLATES["think"]
    whole = render_trajectory(Trajectory("a draft", (), "fine", "the answer"), think)
    output_ = replace(output(whole, 1.0, 7), answer="the answer")
    (answer,) = found(config_of(ours=EntrantConfig(mode=Mode.recursive)), sets=[set_of(output_)])
    assert (answer.text, answer.quality, answer.draft_quality) == ("the answer", 10, 7)


def test_quality_is_asked_for_with_what_judges_have_said_of_this_answer():
    asked = []

    def quality(prompt, text, verdicts):
        asked.append((prompt.query[-1].content, text, [verdict.reward for verdict in verdicts]))
        return 0.5

    def judged(node):
        return replace(node, verdicts=(Verdict("maths", node.reward),))

    (refinement,) = REFINED.levels[0].critiques[0].refinements
    kept = replace(REFINED.levels[0].critiques[0], refinements=(judged(refinement),))
    level = replace(REFINED.levels[0], critiques=(kept,))
    grown = replace(REFINED, response=judged(REFINED.first), levels=(level,))
    found(config_of(dpo=EntrantConfig(mode=Mode.refine, rounds=1)), [grown], quality=quality)
    first, better = ("question", "first one", [1.0]), ("question", "better", [2.0])
    assert sorted(asked) == sorted([first, first, better])  # the draft of r1 is y0
    asked.clear()
    think = TRAJECTORY_TEMPLATES["think"]
    whole = render_trajectory(Trajectory("a draft", (), "fine", "the answer"), think)
    sampled = judged(replace(output(whole, 1.0, 7), answer="the answer"))
    ours = config_of(ours=EntrantConfig(mode=Mode.recursive))
    (answer,) = found(ours, sets=[set_of(sampled)], quality=quality)
    # Nobody has judged the draft in a trajectory yet.
    assert asked == [("question", "a draft", []), ("question", "the answer", [1.0])]
    assert (answer.quality, answer.draft_quality) == (0.5, 0.5)
    (nobody,) = found(ours, sets=[set_of(sampled)], quality=None)
    assert (nobody.quality, nobody.draft_quality) == (None, None)


def test_a_recursive_output_without_an_answer_is_an_empty_one():
    config = config_of(ours=EntrantConfig(mode=Mode.recursive))
    (answer,) = found(config, sets=[set_of(failures=(output("<think>", -3.0, 7, "no end"),))])
    assert (answer.text, answer.reward, answer.num_tokens, answer.failed) == ("", -3.0, 7, True)


def test_best_of_several_takes_the_best_reward_and_pays_for_all():
    config = config_of(best=EntrantConfig(best_of=3))
    sets = [set_of(output("a", 1.0, 5), output("b", 3.0, 6), output("c", 2.0, 7))]
    (answer,) = found(config, sets=sets)
    assert (answer.row, answer.text, answer.num_tokens) == ("best", "b", 18)


@pytest.mark.parametrize(
    ("tokens", "text", "spent"), [(4, "a", 5), (10, "a", 5), (11, "b", 11), (99, "c", 18)]
)
def test_samples_beyond_the_tokens_of_another_are_not_looked_at(tokens, text, spent):
    config = config_of(
        best=EntrantConfig(best_of=3, tokens_of="dpo"), dpo=EntrantConfig(mode=Mode.plain)
    )
    sets = [set_of(output("a", 1.0, 5), output("b", 2.0, 6), output("c", 3.0, 7))]
    grown = tree(replace(response("first one", 1.0), num_tokens=tokens))
    answers = {a.row: a for a in found(config, [grown], sets)}
    assert (answers["best"].text, answers["best"].num_tokens) == (text, spent)


def test_who_spends_the_tokens_of_another_comes_after_it():
    first, second = EntrantConfig(best_of=4, tokens_of="b"), EntrantConfig()
    assert in_order(config_of(a=first, b=second)) == ["b", "a"]
    with pytest.raises(ConfigError, match=r"entrants\.a\.tokens_of is 'b'"):
        in_order(config_of(a=first, b=replace(first, tokens_of="a")))


def test_others_are_compared_with_answers_that_were_not_refined():
    assert baseline_row(config_of(seed=EntrantConfig(mode=Mode.refine, rounds=2))) == "seed r0"
    assert baseline_row(config_of(seed=EntrantConfig())) == "seed"
