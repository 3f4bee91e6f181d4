"""Prompts of recipes whose answers a verifier judges: windows, splits, and no question twice."""

import json
from dataclasses import asdict, replace
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest

from avr.config.load import load
from avr.config.table import TableConfig
from avr.data.prompt_sets import input_rows
from avr.recipes.baseline import BaselineConfig
from avr.recipes.rft import RftConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config

DATA = Path(__file__).parents[4] / "shared/data/code_and_maths"
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason="needs problems of GSM8K and MBPP in ../shared/data/code_and_maths"
)
SCHEMAS = {
    "stage1": Stage1Config,
    "stage2": Stage2Config,
    "baseline_dpo": BaselineConfig,
    "rft": RftConfig,
}
FOLDERS = ("maths", "code", "maths_8gpu", "code_8gpu")
# The published numbers of rows of GSM8K and MBPP.
ROWS = {"maths": {"train": 7473, "test": 1319}, "code": {"train": 374, "test": 500}}
# MBPP asks these questions twice, of functions with other names: task ids in test and in train.
ASKED_TWICE = {(216, 872), (217, 602), (248, 704)}


def task(folder):
    return folder.removesuffix("_8gpu")


@cache
def trained_on(folder):
    """Every prompt set that a training of the folder is made of, by recipe and name."""
    configs = {name: load(SCHEMAS[name], f"conf/{folder}/{name}.yaml") for name in SCHEMAS}
    return {
        (recipe, name): getattr(config.prompts, name)
        for recipe, config in configs.items()
        for name in vars(config.prompts)
    }


@cache
def asked_by_the_table(folder):
    return load(TableConfig, f"conf/{folder}/table.yaml").prompts


def rows(prompts):
    return range(prompts.skip, prompts.skip + prompts.limit)


def overlap(one, two):
    return set(rows(one)) & set(rows(two))


def form(prompts):
    """All that is alike where two sets are of one task: where rows come from, and their fields."""
    return {k: v for k, v in asdict(prompts).items() if k not in ("split", "skip", "limit")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_trainings_read_the_train_split_and_the_table_the_test_split(folder):
    trained, table = trained_on(folder), asked_by_the_table(folder)
    assert {prompts.split for prompts in trained.values()} == {"train"}
    assert table.split == "test"
    for prompts in (*trained.values(), table):
        assert rows(prompts).stop <= ROWS[task(folder)][prompts.split]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_two_steps_of_a_run_ask_the_same_rows(folder):
    trained = trained_on(folder)
    for recipe in ("stage1", "stage2"):
        one, two = (prompts for (of, _), prompts in trained.items() if of == recipe)
        assert not overlap(one, two)


@pytest.mark.parametrize("folder", FOLDERS)
def test_stage_2_asks_other_problems_than_stage_1_where_there_are_enough(folder):
    stages = {key: p for key, p in trained_on(folder).items() if key[0] in ("stage1", "stage2")}
    if task(folder) == "code":  # 374 problems, all of which Stage I takes
        first = [prompts for (recipe, _), prompts in stages.items() if recipe == "stage1"]
        assert set().union(*map(rows, first)) == set(range(ROWS["code"]["train"]))
        return
    assert not any(overlap(one, two) for one, two in combinations(stages.values(), 2))


@pytest.mark.parametrize("folder", FOLDERS)
def test_baselines_are_trained_on_the_problems_of_stage_1(folder):
    trained = trained_on(folder)
    first = {*rows(trained["stage1", "rsft"]), *rows(trained["stage1", "dpo"])}
    for recipe in ("baseline_dpo", "rft"):
        assert set(rows(trained[recipe, "sample"])) == first


@pytest.mark.parametrize("folder", ["maths_8gpu", "code_8gpu"])
def test_eight_gpus_take_all_there_is(folder):
    stages = [p for key, p in trained_on(folder).items() if key[0] in ("stage1", "stage2")]
    assert set().union(*map(rows, stages)) == set(range(ROWS[task(folder)]["train"]))
    assert rows(asked_by_the_table(folder)) == range(ROWS[task(folder)]["test"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_problem_has_one_form_wherever_it_is_asked(folder):
    first = form(trained_on(task(folder))["stage1", "rsft"])
    for prompts in (*trained_on(folder).values(), asked_by_the_table(folder)):
        assert form(prompts) == first


def read(prompts, file):
    """The prompts of a file, asked as the recipe asks; every row of it is one."""
    found = list(input_rows(replace(prompts, path=str(file), skip=0, limit=None)))
    assert [row.reason for row in found if row.prompt is None] == []
    return [row.prompt for row in found]


def as_text(prompt):
    return " ".join(prompt.query[-1].content.lower().split())


@needs_data
@pytest.mark.parametrize("folder", ["maths", "maths_8gpu"])
def test_no_problem_of_gsm8k_is_in_both_splits(folder):
    prompts = trained_on(folder)["stage1", "rsft"]
    train = read(prompts, DATA / "gsm8k_train_2000.jsonl")
    test = read(asked_by_the_table(folder), DATA / "gsm8k_test_700.jsonl")
    assert (len(train), len(test)) == (2000, 700)
    assert len({prompt.id for prompt in train}) == 2000
    assert not {as_text(prompt) for prompt in train} & {as_text(prompt) for prompt in test}


def mbpp(folder):
    """Files of the splits of MBPP's data set, by their names there, from its one file."""
    ids = {"test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
    problems = [json.loads(line) for line in (DATA / "mbpp.jsonl").read_text().splitlines()]
    for split, of in ids.items():
        lines = [json.dumps(p) for p in problems if p["task_id"] in of]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return {split: [p for p in problems if p["task_id"] in of] for split, of in ids.items()}


@needs_data
@pytest.mark.parametrize("folder", ["code", "code_8gpu"])
def test_no_prompt_of_mbpp_is_in_two_splits(folder, tmp_path):
    sizes = {split: len(problems) for split, problems in mbpp(tmp_path).items()}
    assert sizes == {**ROWS["code"], "validation": 90}
    prompts = trained_on(folder)["stage1", "rsft"]
    texts = {
        split: {as_text(prompt) for prompt in read(prompts, tmp_path / f"{split}.jsonl")}
        for split in sizes
    }
    assert not any(texts[one] & texts[two] for one, two in combinations(texts, 2))


@needs_data
def test_questions_that_mbpp_asks_in_two_splits_are_three(tmp_path):
    """Their prompts differ in the test that they show, so no id of ours sets them aside."""
    problems = mbpp(tmp_path)
    train = {" ".join(p["text"].lower().split()): p["task_id"] for p in problems["train"]}
    test = [(p["task_id"], " ".join(p["text"].lower().split())) for p in problems["test"]]
    assert {(number, train[text]) for number, text in test if text in train} == ASKED_TWICE
