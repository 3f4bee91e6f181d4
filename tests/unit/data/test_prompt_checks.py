"""A prompt set that is none is found before anything starts, of whichever step it is."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from configured import checked, planned
from fake_hub import forget, hub_of

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.prompts import PromptsConfig
from avr.data.prompt_sets import check_rows, ingest, input_rows
from avr.recipes.answer import AnswerConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config

HELDOUT = "avr/miniature/data/heldout.jsonl"
SETS = [
    ("stage1", "prompts.rsft", "grow_rsft"),
    ("stage1", "prompts.dpo", "grow_dpo"),
    ("stage1", "evaluation.prompts", "evaluate"),
    ("stage2", "prompts.search", "search"),
    ("stage2", "prompts.sample", "sample"),
    ("stage2", "evaluation.prompts", "evaluate"),
    ("answer", "prompts", "answer"),
]


def refused(job, key, *overrides):
    overrides = [f"{key}.{override}" for override in overrides]
    recipe = f"conf/miniature/{job}.yaml"
    with pytest.raises(ConfigError) as caught:
        if job == "stage1":
            checked(load(Stage1Config, recipe, overrides))
        elif job == "stage2":
            planned(load(Stage2Config, recipe, overrides))
        else:
            model = "policy.model=avr/miniature/models/policy"
            checked(load(AnswerConfig, recipe, [model, *overrides]))
    return str(caught.value)


@pytest.mark.parametrize(("job", "key", "step"), SETS)
def test_a_wrong_file_or_field_is_found_whichever_step_reads_it(job, key, step):
    said = refused(job, key, "path=README.md", "skip=0", "limit=null")
    of_step = f"the prompts of step {step}: "
    assert said == f"{of_step}README.md: prompts are read from .jsonl, .json, .parquet and hf://"
    said = refused(job, key, f"path={HELDOUT}", "skip=0", "limit=null", "prompt_field=typo")
    assert said.startswith(
        f"{of_step}{HELDOUT}:1: no field 'typo', which prompt_field names; the rows have "
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    return tmp_path


def wrong(**settings):
    with pytest.raises(ConfigError) as caught:
        check_rows(PromptsConfig(**settings))
    return str(caught.value)


def test_what_is_hidden_in_a_folder_is_no_prompt_file(folder):
    for name in (".DS_Store", "_SUCCESS", ".p.parquet.0123abcd.tmp"):
        (folder / name).write_text("no prompt")
    for name in ("_spark_metadata", ".cache"):
        (folder / name).mkdir()
        (folder / name / "a.jsonl").write_text("no prompt")
    check_rows(PromptsConfig(path=str(folder)))
    counts = ingest(PromptsConfig(path=str(folder)), folder / "p.parquet", folder / "q.parquet")
    assert (counts.num_rows, counts.num_quarantined) == (2, 0)


def test_a_folder_of_a_hidden_name_may_be_named(folder):
    (folder / "sub").rename(folder / ".prompts")
    check_rows(PromptsConfig(path=str(folder / ".prompts")))


def test_any_file_of_the_set_that_cannot_be_read_is_named(folder):
    (folder / "sub" / "README").write_text("about them")
    assert wrong(path=str(folder)).startswith(f"{folder}/sub/README: prompts are read from .jsonl")
    packed = folder / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"prompt": "one"}\n'))
    assert wrong(path=str(packed)).startswith(f"{packed}: prompts are read from .jsonl")


def test_a_window_past_the_end_or_without_usable_rows_is_refused(folder):
    path = str(folder / "sub" / "a.jsonl")
    check_rows(PromptsConfig(path=path, skip=1))
    assert wrong(path=path, skip=2) == f"{path} has no rows after the 2 that `skip` leaves out"
    (folder / "empty.jsonl").write_text("\n")
    assert wrong(path=str(folder / "empty.jsonl")) == f"{folder}/empty.jsonl has no rows"
    said = wrong(path=path, answer_field="answr")
    assert said == f"{path}:1: no field 'answr', which answer_field names; the rows have prompt"
    (folder / "null.jsonl").write_text('{"prompt": null}\n' * 2)
    said = wrong(path=str(folder / "null.jsonl"))
    assert said.startswith("none of the 2 rows is a usable prompt; the first: ")


ROW = {"prompt": "p", "answer": "1", "test_list": ["t"], "setup_code": ""}
TYPOS = [
    ({"prompt_field": "promt"}, "'promt', which prompt_field names; did you mean 'prompt'?"),
    ({"answer_field": "anwser"}, "'anwser', which answer_field names; did you mean 'answer'?"),
    (
        {"reference_field": "ansewr"},
        "'ansewr', which reference_field names; did you mean 'answer'?",
    ),
    ({"tests_field": "tests_list"}, "'tests_list', which tests_field names; did you mean 'test_l"),
    ({"setup_field": "setup"}, "'setup', which setup_field names; did you mean 'setup_code'?"),
    (
        {"prompt_format": "{prompt} {test_lst[0]}"},
        "'test_lst', which prompt_format names; did you mean 'test_list'?",
    ),
    (
        {"prompt_format": "{prompt:{widht}}"},
        "'widht', which prompt_format names; the rows have answer, prompt, setup_code, test_list",
    ),
]


@pytest.mark.parametrize("number", [1, 300])
@pytest.mark.parametrize(("settings", "words"), TYPOS)
def test_a_misspelt_field_is_named_with_the_nearest_in_files_of_any_length(
    tmp_path, settings, words, number
):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n" * number)
    assert wrong(path=str(path), **settings).startswith(f"{path}:1: no field {words}")


def test_a_field_that_some_of_the_first_rows_lack_is_left_to_the_step(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p"}\n' * 199 + f"{json.dumps(ROW)}\n")
    check_rows(PromptsConfig(path=str(path), reference_field="answer"))


@pytest.mark.parametrize(
    ("prompt_format", "words"),
    [
        ("{prompt", "prompt_format is no format: expected '}' before end of string"),
        ("prompt}", "prompt_format is no format: Single '}' encountered in format string"),
        ("{}", "prompt_format: the place {} names no field"),
        ("{0} {prompt}", "prompt_format: the place {0} names no field"),
    ],
)
def test_what_is_no_format_of_fields_is_refused_before_anything_starts(
    folder, prompt_format, words
):
    path = str(folder / "sub" / "a.jsonl")
    assert wrong(path=path, prompt_format=prompt_format) == words


def test_one_usable_row_among_the_first_is_enough(folder):
    path = folder / "odd.jsonl"
    path.write_text("no JSON\n" * 199 + '{"prompt": "one"}\n')
    check_rows(PromptsConfig(path=str(path)))


def test_empty_prompts_at_the_beginning_are_left_to_the_step(folder):
    path = folder / "sorted.jsonl"
    path.write_text('{"prompt": ""}\n' * 200)
    check_rows(PromptsConfig(path=str(path)))  # who knows what follows
    assert wrong(path=str(path), limit=199).startswith("none of the 199 rows is a usable prompt")


def test_a_torn_parquet_file_is_named_before_anything_starts(folder):
    (folder / "torn.parquet").write_bytes(b"PAR1 half")
    said = refused("stage1", "prompts.dpo", f"path={folder}/torn.parquet")
    assert said.startswith("the prompts of step grow_dpo: ")


def reasons(path):
    return [row.reason for row in input_rows(PromptsConfig(path=str(path)))]


def test_a_number_of_5000_digits_is_its_row_s_fault(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "one"}\n{"prompt": "x", "n": ' + "9" * 5000 + "}\n")
    assert reasons(path) == ["", reasons(path)[1]]
    assert "not a JSON line: Exceeds the limit (4300 digits)" in reasons(path)[1]


def test_bytes_of_a_parquet_column_that_are_no_text_are_their_row_s_fault(tmp_path):
    path = tmp_path / "a.parquet"
    texts = pa.array([b"one", b"t\xffo", b"three"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    pq.write_table(pa.table({"prompt": texts}), path)
    bad = "not UTF-8: invalid start byte at byte 1 of a field"
    assert reasons(path) == ["", bad, ""]


def test_half_a_surrogate_pair_in_a_key_can_be_written_down(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "one"}\n' + json.dumps({"\ud800": "x"}) + "\n")
    counts = ingest(PromptsConfig(path=str(path)), tmp_path / "p.parquet", tmp_path / "q.parquet")
    assert (counts.num_prompts, counts.num_quarantined) == (1, 1)
    assert reasons(path)[1] == "no field 'prompt'; the row has \\ud800"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub without any data set, and a folder that the library reads as if it came from there."""
    rows = tmp_path / "set"
    rows.mkdir()
    (rows / "train.jsonl").write_text("".join(f'{{"query": "number {n}"}}\n' for n in range(300)))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    with hub_of({}, tmp_path / "cache") as hub:
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.url)
        yield hub


def test_a_hub_set_is_looked_into_before_anything_starts(hub, tmp_path):
    path = f"hf://{tmp_path}/set"
    check_rows(PromptsConfig(path=path, prompt_field="query"))
    check_rows(PromptsConfig(path=path, prompt_field="query", skip=100))
    assert wrong(path=path) == (
        f"{path}:train:0: no field 'prompt', which prompt_field names; the rows have query"
    )
    assert "test" in wrong(path=path, prompt_field="query", split="test")
    assert "\n" not in wrong(path=path, prompt_field="query", split="test")


def test_a_misspelt_or_gated_hub_set_ends_in_one_line(hub):
    for status in (None, 403):
        if status:
            hub.gated["datasets/us/set"] = status
        said = refused("stage1", "prompts.dpo", "path=hf://us/set", "skip=0")
        assert said.startswith("the prompts of step grow_dpo: hf://us/set: DatasetNotFoundError: ")
        assert "\n" not in said
    assert "gated" in said


def test_offline_a_hub_set_is_said_to_be_unseen(capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    forget()
    overrides = ["prompts.dpo.path=hf://us/set"]
    checked(load(Stage1Config, "conf/miniature/stage1.yaml", overrides))
    said = "could not read hf://us/set (HF_HUB_OFFLINE is set); going on without checking "
    assert said + "the prompts of step grow_dpo" in capsys.readouterr().out
    forget()
