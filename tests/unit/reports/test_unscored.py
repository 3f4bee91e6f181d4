"""Refinements that the reward model failed on: every summary says how many there were."""

import io
from dataclasses import replace

from evaluations import unnamed
from rich.console import Console
from scripted import critique, response, searched
from test_refined_answers import JUDGE, configured, grown

from avr.core.growth import Shape
from avr.core.tree import tree_from_dict, tree_to_dict
from avr.data.prompt_sets import input_rows
from avr.data.schemas import TREES
from avr.data.tables import write_part
from avr.reports.comparison import comparison_rows, num_unscored, refined_rows
from avr.reports.parts import tables_of
from avr.reports.refined import outcome_of, outcomes_of, report_of
from avr.reports.trees import search_statistics, tree_statistics

REFINED = searched(
    response("first", 1.0), (critique("one", response("better", 2.0)),), (critique("two"),)
)
UNJUDGED = replace(
    REFINED,
    levels=(REFINED.levels[0], replace(REFINED.levels[1], num_unscored=3, num_rejected_tokens=40)),
)


def printed(table):
    console = Console(width=160, file=io.StringIO())
    console.print(table)
    return " ".join(console.file.getvalue().split())


def test_growth_and_search_count_them(tmp_path):
    write_part(tmp_path / "trees", "part", [tree_to_dict(UNJUDGED)], TREES)
    (tmp_path / "quarantine").mkdir()
    assert tree_statistics(tmp_path, Shape())["refinements_unscored"] == 3
    found = search_statistics(tmp_path, None, Shape())
    assert found["refinements_unscored"] == 3
    assert (found["depths"], found["improving_turns"]) == ({2: 1}, {1: 1})
    assert found["tokens"] == REFINED.num_tokens() + 40


def test_evaluation_counts_each_as_a_round_that_failed_and_says_so():
    trees = [UNJUDGED, replace(REFINED, levels=(*REFINED.levels[:1], *REFINED.levels[:1]))]
    assert num_unscored(trees) == 3
    named = {str(number): tree for number, tree in enumerate(trees)}
    rows = refined_rows("seed", 2, named, named, "seed", None)
    assert rows[-1]["failed"] == 1 / 4
    said = "3 refinements got no reward and count as failed"
    (table,) = tables_of([comparison_rows(rows, 3, "seed")])
    assert said in printed(table)
    (table,) = tables_of([comparison_rows(rows, 0, "seed")])
    assert said[2:] not in printed(table)


def test_answer_whose_refinements_all_cannot_be_judged_stays_and_says_why(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text('{"instruction": "a?", "output": "a"}\n')
    config = configured(file, reward_model=JUDGE)
    (row,) = input_rows(config.answers)
    data = grown(row, 0.0, 1.0)
    (level,) = data["levels"]
    (told,) = level["critiques"]
    none = {**level, "critiques": [{**told, "refinements": ()}], "num_unscored": 1}
    unjudged = {**data, "levels": [none]}
    one = outcome_of(row, tree_from_dict(unjudged), 2, gated=True)
    assert (one.answer, one.rounds, one.num_unscored) == ("a", 0, 1)
    assert one.reason == "no refinement could be judged"
    write_part(tmp_path / "trees", "one", [unjudged], TREES)
    report = report_of(config, list(outcomes_of(config, tmp_path)))
    assert report["unscored"] == 1
    assert report["as_they_were"] == {"no refinement could be judged": 1}
    assert not unnamed(report, "refine")
