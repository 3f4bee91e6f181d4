"""Prompts in, and Parquet between the steps: the files of the pipeline, without Ray."""

import json
from dataclasses import fields, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scripted import critique, response, tree

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.core.messages import assistant, user
from avr.core.outputs import Output, OutputSet, open_set, set_to_dict
from avr.core.tree import Prompt, tree_to_dict
from avr.data import tables
from avr.data.prompt_sets import ingest
from avr.data.used_prompts import prompts_of


def ingested(tmp_path, source, needs_answer=False, **settings):
    config = PromptsConfig(path=str(source), **settings)
    counts = ingest(config, tmp_path / "p.parquet", tmp_path / "q.parquet", needs_answer)
    rows = list(tables.read_rows(tmp_path / "p.parquet"))
    bad = list(tables.read_rows(tmp_path / "q.parquet"))
    assert counts.num_rows == len(rows) + len(bad)
    return rows, bad


LINES = [
    '{"prompt": "one", "chosen": "answer"}',
    "{broken",
    '{"question": "two"}',
    '{"prompt": ""}',
    '{"prompt": 3}',
    '{"prompt": "one"}',
    "",
    '{"prompt": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}]}',
    '{"prompt": [{"role": "bot", "content": "hi"}]}',
    '["a", "list"]',
    '{"prompt": "süß \\ud83d\\ude00"}',
    '{"prompt": "half \\ud800 a pair"}',
]


def test_bad_rows_are_quarantined_with_file_line_field_and_reason(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(LINES))
    rows, bad = ingested(tmp_path, source)
    assert [r["query"][-1]["content"] for r in rows] == ["one", "süß 😀"]
    reasons = {b["source"].rpartition(":")[2]: b["reason"] for b in bad}
    assert "not a JSON line" in reasons["2"]
    assert "no field 'prompt'; the row has question" in reasons["3"]
    assert "'prompt' is empty" in reasons["4"]
    assert "neither text nor messages" in reasons["5"]
    assert reasons["6"] == f"the same prompt as {source}:1"
    assert "assistant's turn" in reasons["8"]
    assert "'prompt', turn 0: role is 'bot'" in reasons["9"]
    assert "not an object" in reasons["10"]
    assert "half a surrogate pair" in reasons["12"]


def test_broken_encoding_is_one_bad_row_not_a_dead_job(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"prompt": "ok"}\n\xff\xfe{"prompt": "x"}\n')
    rows, bad = ingested(tmp_path, source)
    assert (len(rows), len(bad)) == (1, 1)


def test_answers_come_from_text_or_the_last_assistant_turn(tmp_path):
    source = tmp_path / "in.parquet"
    dialogue = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "said"}]
    pq.write_table(pa.Table.from_pylist([{"prompt": "q", "chosen": dialogue}]), source)
    rows, _ = ingested(tmp_path, source, needs_answer=True, answer_field="chosen")
    assert rows[0]["answer"] == "said"


@pytest.mark.parametrize(("number", "width", "groups"), [(5000, 10, 1), (5000, 2000, 2), (0, 1, 0)])
def test_rows_are_written_in_few_groups_and_all_of_them(tmp_path, number, width, groups):
    rows = [{"id": f"{n:06}", "text": "x" * width} for n in range(number)]
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    file = tmp_path / "rows.parquet"
    assert tables.write_rows(file, rows, schema) == number
    assert list(tables.read_rows(file)) == rows
    assert pq.read_metadata(file).num_row_groups == groups


def test_a_parquet_file_that_cannot_be_read_is_named(tmp_path):
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-4])
    with pytest.raises(ValueError, match=r"b\.parquet: .*magic bytes"):
        list(tables.read_rows(tmp_path, ["id"]))
    (tmp_path / "b.parquet").write_bytes(whole[:8] + b"\xff" * 12 + whole[20:])
    with pytest.raises(ValueError, match=r"b\.parquet: "):
        list(tables.read_rows(tmp_path, ["id"]))
    with pytest.raises(ValueError, match=r"a\.parquet has no column 'tree'"):
        list(tables.read_rows(tmp_path, ["id", "tree"]))


def test_prompts_used_elsewhere_are_refused_by_name(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    config = PromptsConfig(path=str(source))
    used = tmp_path / "run" / "grow_rsft" / "prompts.parquet"
    ingest(PromptsConfig(path=str(source), limit=1), used, tmp_path / "q0.parquet")
    taken = prompts_of(tmp_path / "run", ["grow_rsft"])
    counts = ingest(config, tmp_path / "p.parquet", tmp_path / "q.parquet", taken=taken)
    assert (counts.num_prompts, counts.num_quarantined) == (1, 1)
    (bad,) = tables.read_rows(tmp_path / "q.parquet")
    assert bad["reason"] == "the same prompt as one in grow_rsft"


def test_answer_that_nobody_needs_may_be_missing(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "one", "chosen": null}\n')
    rows, _ = ingested(tmp_path, source, answer_field="chosen")
    assert rows[0]["answer"] is None
    with pytest.raises(ConfigError, match="holds no answer"):
        ingested(tmp_path, source, needs_answer=True, answer_field="chosen")


def test_window_takes_the_rows_asked_for(tmp_path):
    source = tmp_path / "in.json"
    source.write_text(json.dumps([{"prompt": str(n)} for n in range(10)]))
    rows, _ = ingested(tmp_path, source, skip=3, limit=2)
    assert [r["query"][0]["content"] for r in rows] == ["3", "4"]


def test_a_pattern_names_files_of_several_folders_in_the_order_of_their_names(tmp_path):
    for name in ("b/rows.jsonl", "a/rows.jsonl", "a/other.jsonl", "c/rows.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"prompt": name}) + "\n")
    rows, _ = ingested(tmp_path, tmp_path / "[abc]" / "rows.jsonl")
    assert [row["query"][0]["content"] for row in rows] == ["a/rows.jsonl", "b/rows.jsonl"]
    with pytest.raises(ConfigError, match="no prompts at"):
        ingested(tmp_path, tmp_path / "*" / "none.jsonl")
    odd = tmp_path / "of [1].jsonl"  # a name that only looks like a pattern
    odd.write_text('{"prompt": "odd"}\n')
    assert len(ingested(tmp_path, odd)[0]) == 1


def test_unusable_input_is_an_error_that_names_it(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "x"}\n')
    with pytest.raises(ConfigError, match=r"none of 1 rows.*no field 'prompt'"):
        ingested(tmp_path, source)
    with pytest.raises(ConfigError, match="no prompts at"):
        ingested(tmp_path, tmp_path / "none.jsonl")
    (tmp_path / "in.csv").write_text("prompt\nx\n")
    with pytest.raises(ConfigError, match=r"read from \.jsonl"):
        ingested(tmp_path, tmp_path / "in.csv")


def forest():
    return [
        tree(response(f"first{n}", 1.0), critique("c", response("r", 2.0 + n)), query=f"q{n}")
        for n in range(5)
    ]


def test_trees_survive_parquet_in_the_order_of_their_ids(tmp_path):
    trees = forest()
    tables.write_part(tmp_path / "t", "one", [tree_to_dict(t) for t in trees[:3]], tables.TREES)
    tables.write_part(tmp_path / "t", "two", [tree_to_dict(t) for t in trees[3:]], tables.TREES)
    assert list(tables.read_trees(tmp_path / "t")) == sorted(trees, key=lambda t: t.id)


def test_a_part_written_twice_is_there_once(tmp_path):
    rows = [tree_to_dict(t) for t in forest()]
    tables.write_part(tmp_path / "t", "one", rows, tables.TREES)
    tables.write_part(tmp_path / "t", "one", list(reversed(rows)), tables.TREES)
    assert len(list(tables.read_trees(tmp_path / "t"))) == 5


def test_trees_doubled_across_parts_are_an_error(tmp_path):
    rows = [tree_to_dict(t) for t in forest()]
    tables.write_part(tmp_path / "t", "one", rows, tables.TREES)
    tables.write_part(tmp_path / "t", "two", rows[:1], tables.TREES)
    for read in (tables.read_ids, lambda folder: list(tables.read_trees(folder))):
        with pytest.raises(ValueError, match="there twice"):
            read(tmp_path / "t")


def test_a_part_that_came_out_empty_the_second_time_is_gone(tmp_path):
    tables.write_part(tmp_path / "t", "one", [tree_to_dict(forest()[0])], tables.TREES)
    tables.write_part(tmp_path / "t", "one", [], tables.TREES)
    assert tables.read_ids(tmp_path / "t") == set()


def sets():
    """Sets as they come out of sampling: full, with failures only, not scored, and untouched."""
    good = Output("n1", "<think>\na\n</think>\n\nsüß", "süß", 2, "stop", 7, reward=-1.5)
    bad = Output("n2", "", "", 0, "length", 640, "has no end marker, cut off at its token limit")
    dialogue = (user("hi"), assistant("ho"), user("q\u2028"))
    full = open_set(Prompt.of(dialogue, "its own answer", "in.jsonl:3"), "recipe")
    lone = open_set(Prompt.of((user("lone"),)), "recipe")
    untouched = open_set(Prompt.of((user("long"),)), "recipe")
    return [
        replace(full, outputs=(good, replace(good, id="n3")), failures=(bad,), reference=0.25),
        replace(lone, failures=(bad, replace(bad, id="n4", reward=-9.0)), num_missing=2),
        OutputSet("set", lone.prompt, (replace(good, reward=None),), num_missing=1),
        replace(untouched, quarantined="sample: 500 + 100 tokens do not fit into 512"),
    ]


def test_sets_survive_parquet_in_the_order_of_their_ids(tmp_path):
    by_id = sorted(sets(), key=lambda item: item.id)
    for name, part in (("a", by_id[2:]), ("b", by_id[1::-1])):  # parts and rows out of order
        tables.write_part(tmp_path / "o", name, list(map(set_to_dict, part)), tables.OUTPUTS)
    assert list(tables.read_sets(tmp_path / "o")) == by_id


def test_sets_of_a_folder_that_is_empty_or_not_there_are_none(tmp_path):
    (tmp_path / "empty").mkdir()
    assert list(tables.read_sets(tmp_path / "empty")) == []
    assert list(tables.read_sets(tmp_path / "none")) == []


def test_every_field_of_a_set_and_its_outputs_has_a_column():
    assert tables.OUTPUTS.names == [field.name for field in fields(OutputSet)]
    for name in ("outputs", "failures"):
        columns = tables.OUTPUTS.field(name).type.value_type
        assert [column.name for column in columns] == [field.name for field in fields(Output)]


def test_half_written_parts_are_not_read(tmp_path):
    tables.write_part(tmp_path / "t", "one", [tree_to_dict(forest()[0])], tables.TREES)
    (tmp_path / "t" / ".half.tmp").write_bytes(b"PAR1 half")
    assert len(tables.read_ids(tmp_path / "t")) == 1
