"""Stage II's rows as the job makes them: what its settings and profiles do to what is written."""

from dataclasses import replace

import pytest
from scripted import TEMPLATES, critique, response, searched
from whole_outputs import output

from avr.config_stage2 import Closing, OutputPairsConfig, TrajectoriesConfig
from avr.core.messages import user
from avr.core.outputs import open_set, set_to_dict
from avr.core.tree import Prompt, tree_to_dict
from avr.pipeline.rows_stage2 import more_pairs, pair, unroll
from avr.pipeline.tables import OUTPUTS, TREES, read_rows, write_part

RATED = replace(critique("rated high", response("worse", 0.2)), rating=9)
NEAREST = replace(critique("nearest", response("nearly", 0.9)), rating=3)
BETTER = (critique("mends it", response("better", 3.0)),)


@pytest.mark.parametrize(
    ("profile", "closing", "said"),
    [
        ("recommended", None, "rated high"),
        ("as_paper", None, "rated high"),
        ("as_released", None, "nearest"),
        ("recommended", "best_refinement", "nearest"),
        ("as_released", "highest_rating", "rated high"),
    ],
)
def test_a_trajectory_closes_as_the_setting_says_else_as_the_profile(
    tmp_path, profile, closing, said
):
    grown = searched(response("y0", 1.0), BETTER, (RATED, NEAREST))
    write_part(tmp_path / "trees", "a", [tree_to_dict(grown)], TREES)
    rules = TrajectoriesConfig(
        profile=profile, closing=None if closing is None else Closing[closing]
    )
    made = unroll(tmp_path / "trees", tmp_path / "rows.parquet", TEMPLATES, rules, frozenset())
    (row,) = read_rows(tmp_path / "rows.parquet")
    assert made["num_rows"] == 1
    learned = row["messages"][-1]["content"]
    assert [words in learned for words in ("rated high", "nearest")] == [
        words == said for words in ("rated high", "nearest")
    ]


def test_outputs_without_an_answer_lose_where_they_are_given_a_share(tmp_path):
    sets = []
    for n in range(4):
        opened = open_set(Prompt.of((user(f"question {n}"),)), "recipe")
        endless = replace(
            output("", None, finish="length"), id=f"endless-{n}", failure="has no end marker"
        )
        outputs = (output("good", 2.0), output("bad", 1.0))
        sets.append(replace(opened, outputs=outputs, failures=(endless,)))
    write_part(tmp_path / "outputs", "a", [set_to_dict(each) for each in sets], OUTPUTS)

    def kinds(share):
        rules = OutputPairsConfig(malformed_share=share)
        file = tmp_path / f"{share}.parquet"
        made = pair(tmp_path / "outputs", file, TEMPLATES, rules, frozenset(), own_judge=False)
        rows = list(read_rows(file))
        assert made["num_pairs"] == len(rows)
        return [row["kind"] for row in rows], [funnel["name"] for funnel in made["funnels"]]

    assert kinds(0.0) == (["output"] * 4, ["outputs"])
    assert kinds(0.5) == (["output"] * 4 + ["malformed"] * 4, ["outputs", "malformed"])
    assert kinds(0.2) == (["output"] * 4 + ["malformed"], ["outputs", "malformed"])


def test_pairs_that_malformed_outputs_may_join_are_other_pairs():
    none, some = more_pairs(OutputPairsConfig()), more_pairs(OutputPairsConfig(malformed_share=0.2))
    assert (none, some) == ({}, {"malformed_share": 0.2})
