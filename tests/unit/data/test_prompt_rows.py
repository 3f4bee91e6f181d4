"""A row's prompt made of several fields, and what a verifier needs of a row: the exact words."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.data import tables
from avr.data.prompt_sets import check_rows, ingest, input_rows
from avr.data.schemas import prompt_of

GOOD = {
    "question": "q",
    "answer": "#### 18",
    "list": ["assert 1", "assert 2"],
    "setup": "x",
}
FORMAT = {"prompt_format": "{question}\nFirst: {list[0]}"}
REFERENCE, TESTS, SETUP = (
    {"prompt_field": "question", f"{what}_field": name}
    for what, name in (("reference", "answer"), ("tests", "list"), ("setup", "setup"))
)


def ingested(tmp_path, *rows, **settings):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PromptsConfig(path=str(file), **settings)
    counts = ingest(config, tmp_path / "p.parquet", tmp_path / "q.parquet")
    bad = [
        (each["source"].removeprefix(f"{file}:"), each["reason"])
        for each in tables.read_rows(tmp_path / "q.parquet")
    ]
    prompts = [prompt_of(row) for row in tables.read_rows(tmp_path / "p.parquet")]
    assert counts.num_rows == len(rows) == len(bad) + len(prompts)
    return prompts, bad


def test_what_a_verifier_needs_comes_along_and_the_query_holds_none_of_it(tmp_path):
    fields = {"reference_field": "answer", "tests_field": "list", "setup_field": "setup"}
    ((prompt,), bad) = ingested(tmp_path, GOOD, prompt_field="question", **fields)
    assert not bad
    assert [m.content for m in prompt.query] == ["q"]
    assert prompt.reference == "#### 18"
    assert (prompt.tests, prompt.setup) == (("assert 1", "assert 2"), "x")
    ((plain,), _) = ingested(tmp_path, GOOD, prompt_field="question")
    assert (plain.reference, plain.tests, plain.setup) == (None, (), "")
    assert plain.id == prompt.id  # which the query alone decides


def test_tests_may_be_one_text_and_a_setup_may_be_empty(tmp_path):
    row = GOOD | {"list": "def check(f): ...", "setup": ""}
    ((prompt,), bad) = ingested(
        tmp_path, row, prompt_field="question", tests_field="list", setup_field="setup"
    )
    assert (prompt.tests, prompt.setup, bad) == (("def check(f): ...",), "", [])


@pytest.mark.parametrize(
    ("number", "text"),
    [(18, "18"), (0.5, "0.5"), (-7, "-7"), (1200.0, "1200.0"), (1e-7, "0.0000001"), (0, "0")],
)
def test_a_reference_may_be_a_number(tmp_path, number, text):
    row = GOOD | {"answer": number}
    ((prompt,), bad) = ingested(tmp_path, row, **REFERENCE)
    assert (prompt.reference, bad) == (text, [])


def test_a_null_in_a_format_is_named_and_no_word_of_the_prompt(tmp_path):
    prompts, bad = ingested(tmp_path, GOOD, GOOD | {"question": None}, **FORMAT)
    assert len(prompts) == 1
    assert bad == [("2", "prompt_format does not fit the row: field 'question' is null")]
    rows = [GOOD | {"nested": nested} for nested in ({"b": "in it"}, {"c": 1})]
    _, ((_, said),) = ingested(tmp_path, *rows, prompt_format="{question} {nested[b]}")
    assert said == "prompt_format does not fit the row: no 'b' in it"


def test_a_list_of_tests_comes_out_of_parquet_as_it_went_in(tmp_path):
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([GOOD]), file)
    config = PromptsConfig(path=str(file), prompt_field="question", tests_field="list")
    (row,) = input_rows(config)
    assert row.prompt.tests == ("assert 1", "assert 2")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("{question}", "q"),
        ("{question}\nFirst: {list[0]}", "q\nFirst: assert 1"),
        ("{{literal}} {answer}", "{literal} #### 18"),
        ("{list[1]:>10}", "  assert 2"),
        ("{number:.2f} of {nested[a][0]}", "0.50 of 7"),
        ("every row the same", "every row the same"),
    ],
)
def test_a_prompt_is_made_of_several_fields(tmp_path, form, text):
    row = GOOD | {"number": 0.5, "nested": {"a": [7]}}
    ((prompt,), bad) = ingested(tmp_path, row, prompt_format=form)
    assert ([m.content for m in prompt.query], bad) == ([text], [])
    assert prompt.query[0].role == "user"


def test_the_words_of_a_row_are_no_format(tmp_path):
    row = GOOD | {"question": "{answer} {0} }{ {list.__class__}"}
    ((prompt,), _) = ingested(tmp_path, row, **FORMAT)
    assert prompt.query[0].content.startswith("{answer} {0} }{ {list.__class__}\n")


BAD = [
    (FORMAT, {"question": None}, "no field 'question' for prompt_format; the row has answer, "),
    (FORMAT, {"list": None}, "no field 'list' for prompt_format; the row has answer, question"),
    (FORMAT, {"list": []}, "prompt_format does not fit the row: list index out of range"),
    (FORMAT, {"list": 3}, "prompt_format does not fit the row: 'int' object is not subscriptable"),
    (
        {"prompt_format": "{question}"},
        {"question": " \n"},
        "the prompt that prompt_format makes",
    ),
    (REFERENCE, {"answer": None}, "no field 'answer'; the row has list, question, setup"),
    (REFERENCE, {"answer": ""}, "field 'answer' is empty, not a text"),
    (REFERENCE, {"answer": True}, "field 'answer' is true or false, not a text"),
    (REFERENCE, {"answer": math.nan}, "field 'answer' is nan, which is no final answer"),
    (REFERENCE, {"answer": -math.inf}, "field 'answer' is -inf, which is no final answer"),
    (FORMAT, {"list": [None]}, "prompt_format does not fit the row: field 'list[0]' is null"),
    (FORMAT, {"question": "\ud800"}, "the prompt that prompt_format makes holds half a surrogate"),
    (REFERENCE, {"answer": ["18"]}, "field 'answer' is a list, not a text"),
    (REFERENCE, {"answer": "\ud800"}, "field 'answer' holds half a surrogate pair at character 0"),
    (TESTS, {"list": None}, "no field 'list'; the row has answer, question, setup"),
    (TESTS, {"list": []}, "field 'list' holds no tests; it must be a list of texts, or a text"),
    (
        TESTS,
        {"list": {"a": 1}},
        "field 'list' holds no tests; it must be a list of texts, or a text",
    ),
    (TESTS, {"list": 3}, "field 'list' holds no tests; it must be a list of texts, or a text"),
    (TESTS, {"list": ["a", 3]}, "field 'list' holds a test that is no text, or an empty one"),
    (TESTS, {"list": ["a", " "]}, "field 'list' holds a test that is no text, or an empty one"),
    (TESTS, {"list": ""}, "field 'list' holds a test that is no text, or an empty one"),
    (TESTS, {"list": ["a\ud800"]}, "field 'list' holds half a surrogate pair at character 1"),
    (SETUP, {"setup": None}, "no field 'setup'; the row has answer, list, question"),
    (SETUP, {"setup": 3}, "field 'setup' is a number, not a text"),
    (SETUP, {"setup": "\ud800"}, "field 'setup' holds half a surrogate pair at character 0"),
]


@pytest.mark.parametrize(("settings", "change", "reason"), BAD, ids=range(len(BAD)))
def test_a_row_that_lacks_it_is_set_aside_with_line_field_and_reason(
    tmp_path, settings, change, reason
):
    """A change to None takes the field away."""
    row = {name: value for name, value in (GOOD | change).items() if value is not None}
    first, last = GOOD | {"question": "first"}, GOOD | {"question": "last"}
    prompts, bad = ingested(tmp_path, first, row, last, **settings)
    ((line, said),) = bad
    assert line == "2" and said.startswith(reason)
    assert [p.query[0].content.partition("\n")[0] for p in prompts] == ["first", "last"]


@pytest.mark.parametrize("settings", [FORMAT, REFERENCE, TESTS, SETUP])
@pytest.mark.parametrize("row", ["a text", 3, None, ["a"]])
def test_a_row_that_is_no_object_is_set_aside(tmp_path, settings, row):
    _, ((line, said),) = ingested(tmp_path, GOOD, row, **settings)
    assert line == "2" and said.startswith("the row is ") and "not an object" in said


@pytest.mark.parametrize(
    ("settings", "row", "reason"),
    [
        (REFERENCE, '{"question": "q", "answer": null}', "field 'answer' is null, not a text"),
        (
            TESTS,
            '{"question": "q", "list": null}',
            "field 'list' holds no tests; it must be a list",
        ),
        (SETUP, '{"question": "q", "setup": null}', "field 'setup' is null, not a text"),
        (
            {"prompt_format": "{question.x}"},
            '{"question": "q"}',
            "prompt_format does not fit the row: 'str' object has no attribute 'x'",
        ),
    ],
)
def test_a_row_cannot_be_used_where_its_only_fault_is(tmp_path, settings, row, reason):
    file = tmp_path / "rows.jsonl"
    file.write_text(row)
    (found,) = input_rows(PromptsConfig(path=str(file), **settings))
    assert found.prompt is None and found.reason.startswith(reason)


def test_first_rows_are_looked_at_before_anything_starts(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(GOOD))
    check_rows(PromptsConfig(path=str(file), **FORMAT, reference_field="answer"))
    for settings, named in [
        ({"prompt_format": "{quest}"}, r"no field 'quest', which prompt_format names; "),
        (FORMAT | {"reference_field": "ref"}, r"no field 'ref', which reference_field names; "),
        (FORMAT | {"tests_field": "test"}, r"no field 'test', which tests_field names; "),
    ]:
        with pytest.raises(ConfigError, match=rf"rows.jsonl:1: {named}"):
            check_rows(PromptsConfig(path=str(file), **settings))
