"""Every row of a file of answers comes out again, refined or with the reason why not."""

import json
from dataclasses import asdict

import pytest
from evaluations import unnamed
from hypothesis import given
from hypothesis import strategies as st

from avr.config.answers import RefineConfig
from avr.config.prompts import PromptsConfig
from avr.config.roles import RoleConfig
from avr.core.growth import take_answer
from avr.core.tree import Critique, Level, Response, plant, tree_to_dict
from avr.data.answer_files import write_records
from avr.data.prompt_sets import input_rows
from avr.data.schemas import TREES
from avr.data.tables import write_part
from avr.reports.refined import outcomes_of, record_of, report_of

JUDGE = RoleConfig(model="judge")


def configured(path, **more):
    answers = PromptsConfig(path=str(path), prompt_field="instruction", answer_field="output")
    settings = {"name": "ours", "rounds": 2} | more
    return RefineConfig(run_dir="unused", answers=answers, **settings)


def grown(row, *rewards, texts=("one", "two", "three")):
    """A tree of the row: y0 has the first reward, each level one refinement."""
    tree = take_answer(plant(row.prompt, "test"))
    nodes = [
        Response(f"{row.source}-{n}", t, "stop", 5, r)
        for n, (t, r) in enumerate(zip(texts, rewards[1:], strict=False))
    ]
    current, levels = tree.first.id, []
    for node in nodes:
        critique = Critique(f"c-{node.id}", "Rating: [[5]]", 5, "stop", 7, (node,))
        levels.append(Level(of=current, critiques=(critique,), num_rejected_tokens=3))
        current = node.id
    data = tree_to_dict(tree)
    data["response"]["reward"] = rewards[0]
    return data | {"levels": [asdict(level) for level in levels]}


@pytest.fixture
def answers(tmp_path):
    file = tmp_path / "answers.json"
    rows = [
        {"instruction": "a?", "output": "a", "dataset": "d"},
        {"instruction": "b?", "output": "bb"},
        {"instruction": "", "output": "nobody asked"},
        {"instruction": "c?", "output": "c" * 100},
        {"instruction": "a?", "output": "another a"},
        {"instruction": "d?"},
    ]
    file.write_text(json.dumps(rows))
    return file


def written(tmp_path, answers, *rewards):
    """Trees of a? and b?, c? in quarantine."""
    a, b, _, c, *_ = input_rows(configured(answers).answers)
    write_part(tmp_path / "trees", "one", [grown(a, *rewards), grown(b, 1.0, 0.5)], TREES)
    too_long = grown(c, 0.0) | {"quarantined": "refine: too long for the policy: 5000 tokens"}
    write_part(tmp_path / "quarantine", "one", [too_long], TREES)
    return tmp_path


def test_every_row_is_there_in_order_and_says_what_became_of_it(tmp_path, answers):
    folder = written(tmp_path, answers, 0.0, 1.0, 2.0)
    config = configured(answers, reward_model=JUDGE)
    records = [record_of(config, one) for one in outcomes_of(config, folder)]
    assert [record.get("output") for record in records] == [
        "two",
        "bb",
        "nobody asked",
        "c" * 100,
        "another a",
        None,
    ]
    assert [record["refined"]["rounds"] for record in records] == [2, 0, 0, 0, 0, 0]
    assert records[0]["dataset"] == "d"
    assert records[0]["refined"] == {
        "rounds": 2,
        "reason": "",
        "gain": 2.0,
        "num_tokens": 2 * (5 + 7 + 3),
        "cut": False,
    }
    reasons = [record["refined"]["reason"] for record in records[1:]]
    for reason, words in zip(
        reasons,
        [
            "no refinement was better",
            "field 'instruction' is empty",
            "refine: too long",
            f"the same prompt as {answers}[0]",
            "no field 'output'",
        ],
        strict=True,
    ):
        assert words in reason
    assert all(record["generator"] == "ours" for record in records)


def test_the_gate_stops_at_the_best_and_without_one_the_last_round_is_taken(tmp_path, answers):
    folder = written(tmp_path, answers, 1.0, 3.0, 2.0)
    gated = next(outcomes_of(configured(answers, reward_model=JUDGE), folder))
    assert (gated.answer, gated.rounds, gated.gain) == ("one", 1, 2.0)
    last = next(outcomes_of(configured(answers), folder))
    assert (last.answer, last.rounds, last.gain) == ("two", 2, None)


def test_the_report_adds_up_and_the_oracle_compares_before_and_after(tmp_path, answers):
    folder = written(tmp_path, answers, 0.0, 1.0, 2.0)
    config = configured(answers, reward_model=JUDGE, oracle="test_refined_answers:length_of")
    report = report_of(config, list(outcomes_of(config, folder)))
    assert not unnamed(report, "refine")
    assert report["rows"] == 6 == report["refined"] + sum(report["as_they_were"].values())
    assert report["by_rounds"] == {"0": 5, "2": 1}
    assert report["gain"]["mean"] == pytest.approx(1.0)  # +2 and 0; the others were not judged
    # a, bb, c x 100, another a: only the first changed
    assert report["characters"] == {"was": (1 + 2 + 100 + 9) / 4, "is": (3 + 2 + 100 + 9) / 4}
    assert (report["oracle"]["better"], report["oracle"]["worse"]) == (1, 0)
    assert report["oracle"]["difference"]["mean"] == pytest.approx(0.5)


def length_of(query, answer):
    return float(len(answer))


TEXTS = st.text(st.characters(exclude_categories=()))  # half a surrogate pair included
RECORDS = st.lists(st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(), st.none())))


@given(records=RECORDS, ending=st.sampled_from([".json", ".jsonl"]))
def test_files_of_records_read_back_as_they_were_written(tmp_path_factory, records, ending):
    file = tmp_path_factory.mktemp("records") / f"answers{ending}"
    assert write_records(file, records) == len(records)
    text = file.read_text(encoding="utf-8")
    read = json.loads(text) if ending == ".json" else [json.loads(x) for x in text.split("\n")[:-1]]
    assert read == records
