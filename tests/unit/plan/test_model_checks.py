"""Every recipe against the models that it names; what a job says of models before it starts."""

import json
import shutil
from pathlib import Path

import pytest
from configured import checked as checked_by_a_run
from configured import planned, uses_of
from fake_hub import forget, hub_of
from huggingface_hub import constants

from avr.config.answers import EvaluateConfig, RefineConfig
from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.table import ReplicateConfig, TableConfig
from avr.engines import model_config
from avr.engines.shape import heads
from avr.plan.models import check_models
from avr.recipes.answer import AnswerConfig
from avr.recipes.baseline import BaselineConfig
from avr.recipes.rft import RftConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config
from avr.replication import commands

MODELS = Path("tests/models")
NAMES = sorted(str(file.parent.relative_to(MODELS)) for file in MODELS.glob("*/*/config.json"))
LLAMA, SKYWORK = "meta-llama/Meta-Llama-3-8B-Instruct", "Skywork/Skywork-Reward-Gemma-2-27B"
POLICY = "avr/miniature/models/policy"
QWEN = "Qwen/Qwen2.5-{}-Instruct"
# What earlier runs leave, and what they start from.
MADE = {
    "runs/llama3_8b/dpo": LLAMA,
    "runs/llama3_8b-stage2/dpo": LLAMA,
    "runs/miniature/dpo": POLICY,
    "runs/miniature-stage2/dpo": POLICY,
    "runs/one_gpu/dpo": QWEN.format("1.5B"),
    "runs/one_gpu_80gb/dpo": QWEN.format("7B"),
    "runs/maths-stage1/dpo": QWEN.format("0.5B"),
    "runs/code-stage1/dpo": QWEN.format("Coder-0.5B"),
    "runs/maths_8gpu-stage1/dpo": QWEN.format("7B"),
    "runs/code_8gpu-stage1/dpo": QWEN.format("7B"),
}
RECIPES = {
    "llama3_8b/stage1": Stage1Config,
    "llama3_8b/stage2": Stage2Config,
    "llama3_8b/evaluate_alpaca": EvaluateConfig,
    "llama3_8b/evaluate_arena": EvaluateConfig,
    "llama3_8b/refine": RefineConfig,
    "one_gpu/stage1": Stage1Config,
    "one_gpu/stage1_80gb": Stage1Config,
    "one_gpu/stage2": Stage2Config,
    "one_gpu/stage2_80gb": Stage2Config,
    "one_gpu/evaluate_alpaca": EvaluateConfig,
    "miniature/stage1": Stage1Config,
    "miniature/one_gpu": Stage1Config,
    "miniature/alpaca_eval": Stage1Config,
    "miniature/stage2": Stage2Config,
    "miniature/baseline_dpo": BaselineConfig,
    "miniature/baseline_simpo": BaselineConfig,
    "miniature/meta_rewarding": BaselineConfig,
    "miniature/answer": AnswerConfig,
    "miniature/evaluate": EvaluateConfig,
    "miniature/baseline": EvaluateConfig,
    "miniature/refine": RefineConfig,
    "miniature/self_refine": EvaluateConfig,
    "miniature/table": TableConfig,
    "miniature/best_of_n": TableConfig,
    "miniature/ablation_table": TableConfig,
}
for folder in ("maths", "code", "maths_8gpu", "code_8gpu"):
    RECIPES |= {
        f"{folder}/stage1": Stage1Config,
        f"{folder}/stage2": Stage2Config,
        f"{folder}/baseline_dpo": BaselineConfig,
        f"{folder}/rft": RftConfig,
        f"{folder}/table": TableConfig,
    }


@pytest.fixture
def at_hand(monkeypatch):
    """The models of the Hub that recipes name are the folders of `tests/models`."""
    found = model_config.folder_of

    def folder_of(model):
        return MODELS / model if model in NAMES else found(model)

    monkeypatch.setattr(model_config, "folder_of", folder_of)


def recipe(name, *overrides):
    return load(RECIPES[name], f"conf/{name}.yaml", overrides)


def checked(config, made=MADE):
    """What is said; raises ConfigError."""
    said = []
    check_models(uses_of(config), made, said.append)
    return said


def wrong(config):
    with pytest.raises(ConfigError) as caught:
        checked(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_recipe_is_left_out():
    files = {f"{f.parent.name}/{f.stem}" for f in Path("conf").glob("*/*.yaml")}
    assert files == {*RECIPES, "miniature/replicate", "miniature/ablation"}


def made_for(config):
    """What earlier runs leave for this one, by name; the rows of a table are such models."""
    absent = [use.model for use in uses_of(config) if use.name.startswith("entrants.")]
    return {**MADE, **{m: config.policy.model for m in absent if m not in NAMES}}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_fits_the_models_it_names(at_hand, name):
    config = recipe(name)
    assert checked(config, made_for(config)) == []
    assert len(uses_of(config)) >= 1


def test_the_fixtures_are_the_models_that_the_recipes_of_real_models_name(at_hand):
    configs = [recipe(name) for name in RECIPES if not name.startswith("miniature")]
    named = {made_for(c).get(use.model, use.model) for c in configs for use in uses_of(c)}
    assert named == set(NAMES)
    shapes = {name: json.loads((MODELS / name / "config.json").read_text()) for name in NAMES}
    assert {n for n in NAMES if shapes[n].get("attn_logit_softcapping")} == {SKYWORK}
    assert {name: heads(shape) for name, shape in shapes.items()} == {
        LLAMA: (32, 8),
        QWEN.format("0.5B"): (14, 2),
        QWEN.format("1.5B"): (12, 2),
        QWEN.format("7B"): (28, 4),
        QWEN.format("32B"): (40, 8),
        QWEN.format("Coder-0.5B"): (14, 2),
        QWEN.format("Coder-32B"): (40, 8),
        SKYWORK: (32, 16),
        "Skywork/Skywork-Reward-V2-Qwen3-1.7B": (16, 8),
        "Skywork/Skywork-Reward-V2-Qwen3-8B": (32, 8),
    }


TRAINED = f"runs/llama3_8b/dpo, trained from {LLAMA},"
MISFITS = [
    (
        "llama3_8b/stage2",
        "policy.engine.max_model_len=16384",
        f"policy.engine.max_model_len is 16384, and {TRAINED} has 8192 positions: it must be at"
        " most 8192",
    ),
    (
        "llama3_8b/stage2",
        "outputs.sampling.max_tokens=8192",
        f"outputs.sampling.max_tokens is 8192, and {TRAINED} has 8192 positions for prompt and"
        " output together: 6144, say, leaves room for a prompt",
    ),
    (
        "llama3_8b/stage2",
        "rsft.trl.max_length=16384",
        f"rsft.trl.max_length is 16384, and {TRAINED} has 8192 positions: it must be at most 8192",
    ),
    (
        "llama3_8b/stage1",
        "dpo.trl.max_length=16384",
        f"dpo.trl.max_length is 16384, and {LLAMA} has 8192 positions: it must be at most 8192",
    ),
    (
        "llama3_8b/stage1",
        "corrector.engine.tensor_parallel_size=3",
        "corrector.engine.tensor_parallel_size is 3, and Qwen/Qwen2.5-32B-Instruct has 40 attention"
        " heads and 8 KV heads, which are shared evenly by 1, 2, 4, 8, 40",
    ),
    (
        "llama3_8b/refine",
        "reward_model.engine.max_model_len=8193",
        f"reward_model.engine.max_model_len is 8193, and {SKYWORK} has 8192 positions: it must be"
        " at most 8192",
    ),
    (
        "llama3_8b/stage1",
        f"reward_model.model={LLAMA}",
        f"reward_model.model: {LLAMA} is a LlamaForCausalLM, not a sequence classifier",
    ),
    (
        "miniature/stage2",
        "dpo.trl.max_length=8193",
        f"dpo.trl.max_length is 8193, and runs/miniature/dpo, trained from {POLICY}, has 8192"
        " positions: it must be at most 8192",
    ),
    (
        "miniature/stage1",
        "policy.model=avr/miniature/models/reward",
        "policy.model: avr/miniature/models/reward is a LlamaForSequenceClassification, which"
        " generates no text",
    ),
    (
        "miniature/table",
        "thinking.max_tokens=8192",
        f"thinking.max_tokens is 8192, and {POLICY} has 8192 positions for prompt and output"
        " together: 6144, say, leaves room for a prompt",
    ),
]


@pytest.mark.parametrize(("name", "override", "words"), MISFITS, ids=[m[1] for m in MISFITS])
def test_a_recipe_that_does_not_fit_a_model_ends_in_one_line(at_hand, name, override, words):
    assert wrong(recipe(name, override)) == words


def test_a_judge_is_looked_at_only_where_it_judges(at_hand):
    words = ["judge.kind=reward_model", f"judge.reward_model.model={LLAMA}"]
    judged = recipe("llama3_8b/evaluate_arena", *words)
    assert wrong(judged).startswith(f"judge.reward_model.model: {LLAMA} is a LlamaForCausalLM")
    judged.baseline = None
    assert checked(judged) == []


def test_a_tokenizer_without_a_chat_template_is_found(at_hand, monkeypatch, tmp_path):
    shutil.copytree(MODELS / LLAMA, tmp_path / LLAMA)
    (tmp_path / LLAMA / "tokenizer_config.json").write_text("{}")
    monkeypatch.setattr(model_config, "folder_of", lambda model: tmp_path / LLAMA)
    config = recipe("llama3_8b/stage1")
    assert wrong(config) == f"policy.model: the tokenizer of {LLAMA} has no chat template"


def test_a_model_that_is_still_to_be_made_is_said_to_be_so(at_hand):
    said = checked(recipe("llama3_8b/stage2"), made={})
    assert said == [
        "could not read runs/llama3_8b/dpo (not there yet); "
        "going on without checking settings against it"
    ]


TWO_JOBS = """
run_dir: RUN
seeds: [0]
jobs:
  first: {job: stage1, config: conf/miniature/stage1.yaml}
  second:
    job: stage2
    config: conf/miniature/stage2.yaml
    overrides: ["stage1_dir={folder}/first", MORE]
"""


@pytest.mark.parametrize("more", ["seed=1", "rsft.trl.max_length=9000"])
def test_a_replication_looks_at_the_models_of_all_its_jobs(tmp_path, capsys, more):
    file = tmp_path / "replicate.yaml"
    file.write_text(TWO_JOBS.replace("RUN", str(tmp_path)).replace("MORE", more))
    said = refused(commands.check, load(ReplicateConfig, file, []))
    if more == "seed=1":  # what a job makes for the next has the shape of what it starts from
        assert said == "table is 'table'; jobs of table are "
    else:
        model = tmp_path / "seed-0" / "first" / "dpo"
        assert said == (
            f"jobs.second: rsft.trl.max_length is 9000, and {model}, trained from {POLICY}, has"
            " 8192 positions: it must be at most 8192"
        )
    assert capsys.readouterr().out == ""


@pytest.fixture
def hub(tmp_path):
    with hub_of({name: MODELS / name for name in NAMES}, tmp_path / "cache") as hub:
        yield hub


def large(tmp_path, *overrides):
    """The recipe of Stage I with a prompt file that is there."""
    files = ["prompts.dpo.skip=0"]
    for step in ("rsft", "dpo"):
        file = tmp_path / f"{step}.jsonl"
        file.write_text(f'{{"prompt": "{step}", "chosen": "b"}}\n')
        files.append(f"prompts.{step}.path={file}")
    return recipe("llama3_8b/stage1", *files, f"run_dir={tmp_path / 'run'}", *overrides)


def refused(check, config):
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_plan_and_a_run_end_in_one_line_where_the_hub_gates_a_model(tmp_path, hub, status):
    hub.gated[LLAMA] = status
    for command in (planned, checked_by_a_run):
        assert refused(command, large(tmp_path)) == (
            f"policy.model: {LLAMA} is gated: accept its terms at {hub.url}/{LLAMA} and set"
            " HF_TOKEN to a token of that account"
        )
    assert not (tmp_path / "run").exists()


def test_a_plan_reads_shapes_from_the_hub_at_the_revision_asked_for(tmp_path, hub, capsys):
    commit = hub.commit(LLAMA)
    planned(large(tmp_path, f"policy.model={LLAMA}@{commit}"))
    assert f"/{LLAMA}/resolve/{commit}/config.json" in hub.asked
    planned(large(tmp_path))
    assert capsys.readouterr().out == ""
    assert f"/{SKYWORK}/resolve/main/config.json" in hub.asked
    for override, words in (
        (f"policy.model={LLAMA}@v2", f"policy.model: {LLAMA} has no revision v2"),
        ("policy.engine.max_model_len=9000", f"is 9000, and {LLAMA} has 8192 positions"),
        ("corrector.model=Qwen/Qwen2.5-23B", "corrector.model: there is no model Qwen/Qwen2.5-23B"),
        ("reward_model.model=Qwen/Qwen2.5-32B-Instruct", "is a Qwen2ForCausalLM, not a sequence"),
    ):
        assert words in refused(planned, large(tmp_path, override))


def test_offline_a_plan_says_that_it_could_not_look_and_goes_on(tmp_path, hub, monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    forget()
    steps = [step.step for step in planned(large(tmp_path))]
    assert steps == ["grow_rsft", "rsft", "grow_dpo", "dpo"]
    assert capsys.readouterr().out == (
        f"could not read {LLAMA}, Qwen/Qwen2.5-32B-Instruct, {SKYWORK} (HF_HUB_OFFLINE is set);"
        " going on without checking settings against them\n"
    )
    assert hub.asked == []


def test_every_job_looks_at_its_models(tmp_path, hub):
    """Each is given a policy that the Hub does not have."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "instruction": "a", "output": "b", "answer": "b", "uid": 1}\n')
    missing = "policy.model=us/missing"
    for name, *words in (
        ("miniature/baseline",),
        ("llama3_8b/refine", f"answers.path={file}"),
        ("miniature/answer",),
        ("miniature/stage2", "stage1_dir=null"),
        ("miniature/table", "entrants={a: {model: us/missing}}", "baseline=a"),
    ):
        config = recipe(name, missing, *words)
        if name == "miniature/table":
            config.entrants = {"a": config.entrants["a"]}
        said = refused(planned, config)
        assert said.startswith("policy.model: there is no model us/missing on the Hub"), name
