"""Arena-Hard v0.1's 500 questions: all are read, and records of answers carry their uids."""

import json
from pathlib import Path

import pytest

from avr.config.answers import EvaluateConfig, Format
from avr.config.load import load
from avr.core.messages import user
from avr.data.answer_files import arena_record, write_records
from avr.data.prompt_sets import Ingested, count_rows, ingest, input_rows
from avr.data.tables import read_rows
from avr.reports.answers import baseline_of, left_out
from avr.storage import location

QUESTIONS = Path(__file__).parents[4] / "shared/data/arena_hard_v0.1/questions.jsonl"

pytestmark = pytest.mark.skipif(
    not QUESTIONS.exists(), reason="needs Arena-Hard's questions in ../shared/data/arena_hard_v0.1"
)


@pytest.fixture
def config(tmp_path):
    """The recipe, whose baseline is a file that a test may write."""
    words = [f"prompts.path={QUESTIONS}", f"baseline.path={tmp_path / 'baseline.jsonl'}"]
    return load(EvaluateConfig, "conf/llama3_8b/evaluate_arena.yaml", words)


@pytest.fixture(scope="module")
def published():
    with QUESTIONS.open() as lines:
        return [json.loads(line) for line in lines]


def test_the_recipe_reads_every_question_in_order_and_changes_none(config, published):
    rows = list(input_rows(config.prompts))
    assert len(rows) == len(published) == count_rows(config.prompts) == 500
    assert {row.reason for row in rows} == {""}
    assert [row.fields for row in rows] == published
    assert [row.prompt.query for row in rows] == [(user(one["prompt"]),) for one in published]
    assert [row.source for row in rows] == [f"{QUESTIONS}:{line}" for line in range(1, 501)]
    assert len({row.prompt.id for row in rows}) == 500
    assert {row.prompt.answer for row in rows} == {None}


def test_no_question_is_set_aside_on_its_way_into_a_run(config, published, tmp_path):
    prompts, rejected = (location(str(tmp_path / f"{x}.parquet")) for x in ("prompts", "rejected"))
    assert ingest(config.prompts, prompts, rejected) == Ingested(500, 500, 0)
    assert list(read_rows(rejected)) == []
    kept = [row["query"] for row in read_rows(prompts)]
    assert [query[-1]["content"] for query in kept] == [one["prompt"] for one in published]


def test_records_of_answers_have_the_uids_and_are_a_baseline_to_the_same_questions(
    config, published, tmp_path
):
    answers = {one["uid"]: f"answer {number}" for number, one in enumerate(published)}
    assert len(answers) == 500
    rows = input_rows(config.prompts)
    records = (arena_record(row, answers[row.fields["uid"]], "ours") for row in rows)
    file = tmp_path / "baseline.jsonl"
    assert write_records(location(str(file)), records) == 500
    written = [json.loads(line) for line in file.read_text().splitlines()]
    for name in ("uid", "question_id"):
        assert [record[name] for record in written] == list(answers)
    assert [record["messages"] for record in written] == [
        [
            {"role": "user", "content": one["prompt"]},
            {"role": "assistant", "content": {"answer": answers[one["uid"]]}},
        ]
        for one in published
    ]
    assert [r["choices"][0]["turns"] for r in written] == [
        [{"content": a}] for a in answers.values()
    ]
    assert len({record["answer_id"] for record in written}) == 500
    assert config.format == Format.arena_hard
    assert baseline_of(config) == answers and left_out(config) == 0
