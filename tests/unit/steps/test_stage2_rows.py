"""Stage II's rows as the job makes them: what its settings and profiles do to what is written."""

from dataclasses import asdict, replace

import pytest
from configured import decided, steps_of
from scripted import critique, response, searched
from whole_outputs import output

from avr.config.load import load
from avr.config.prompts import templates_of
from avr.core.messages import user
from avr.core.outputs import open_set, set_to_dict
from avr.core.tree import Prompt, tree_to_dict
from avr.data.schemas import OUTPUTS, TREES
from avr.data.tables import read_rows, write_part
from avr.recipes.stage2 import Stage2Config
from avr.run.ledger import Ledger
from avr.run.step import Run

RATED = replace(critique("rated high", response("worse", 0.2)), rating=9)
NEAREST = replace(critique("nearest", response("nearly", 0.9)), rating=3)
BETTER = (critique("mends it", response("better", 3.0)),)


def stage2(*overrides):
    here = ["stage1_dir=null", "policy.model=avr/miniature/models/corrector"]
    return load(Stage2Config, "conf/miniature/stage2.yaml", [*here, *overrides])


def worked(config, name, folder, before, files, schema):
    """What a step says, and its rows, after a step `before` that left `files`."""
    run = Run(config, folder, Ledger(folder / "ledger", print), None)
    run.ledger.step(before, {"templates": asdict(templates_of(config.templates))}, dict)
    write_part(folder / before / files[0], "a", files[1], schema)
    made = steps_of(config)[name].work(run)
    return made, list(read_rows(folder / name / "rows.parquet"))


@pytest.mark.parametrize(
    ("profile", "closing", "said"),
    [
        ("recommended", "null", "rated high"),
        ("as_paper", "null", "rated high"),
        ("as_released", "null", "nearest"),
        ("recommended", "best_refinement", "nearest"),
        ("as_released", "highest_rating", "rated high"),
    ],
)
def test_a_trajectory_closes_as_the_setting_says_else_as_the_profile(
    tmp_path, profile, closing, said
):
    grown = searched(response("y0", 1.0), BETTER, (RATED, NEAREST))
    config = stage2(
        f"trajectories.profile={profile}",
        f"trajectories.closing={closing}",
        "trajectories.template=think",
    )
    files = ("trees", [tree_to_dict(grown)])
    made, (row,) = worked(config, "unroll", tmp_path, "search", files, TREES)
    assert made["num_rows"] == 1
    learned = row["messages"][-1]["content"]
    assert [words for words in ("rated high", "nearest") if words in learned] == [said]


def test_outputs_without_an_answer_lose_where_they_are_given_a_share(tmp_path):
    sets = []
    for n in range(4):
        opened = open_set(Prompt.of((user(f"question {n}"),)), "recipe")
        endless = replace(
            output("", None, finish="length"), id=f"endless-{n}", failure="has no end marker"
        )
        outputs = (output("ok", 3.0), output("bad", 1.0))
        sets.append(replace(opened, outputs=outputs, failures=(endless,)))

    def kinds(share):
        files = ("outputs", [set_to_dict(each) for each in sets])
        config = stage2(f"pairs.malformed_share={share}")
        made, rows = worked(config, "pair", tmp_path / str(share), "sample", files, OUTPUTS)
        assert made["num_pairs"] == len(rows)
        return [row["kind"] for row in rows], [funnel["name"] for funnel in made["funnels"]]

    assert kinds(0.0) == (["output"] * 4, ["outputs"])
    assert kinds(0.5) == (["output"] * 4 + ["malformed"] * 4, ["outputs", "malformed"])
    assert kinds(0.2) == (["output"] * 4 + ["malformed"], ["outputs", "malformed"])


def test_pairs_that_malformed_outputs_may_join_are_other_pairs():
    assert decided(stage2(), "pair") != decided(stage2("pairs.malformed_share=0.2"), "pair")
