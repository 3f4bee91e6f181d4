"""Recipes of evaluation and refining, and what is refused before anything starts."""

from dataclasses import replace
from pathlib import Path

import pytest
from configured import planned

from avr.config.answers import EvaluateConfig, RefineConfig
from avr.config.errors import ConfigError
from avr.config.load import load

SCHEMAS = {
    "conf/miniature/baseline.yaml": EvaluateConfig,
    "conf/miniature/evaluate.yaml": EvaluateConfig,
    "conf/miniature/self_refine.yaml": EvaluateConfig,
    "conf/miniature/refine.yaml": RefineConfig,
    "conf/llama3_8b/evaluate_alpaca.yaml": EvaluateConfig,
    "conf/llama3_8b/evaluate_arena.yaml": EvaluateConfig,
    "conf/llama3_8b/refine.yaml": RefineConfig,
}
CORRECTOR = "policy.model=avr/miniature/models/corrector"
ANSWERS = "tests/unit/answers.json"


@pytest.mark.parametrize("recipe", SCHEMAS)
def test_every_recipe_loads_and_says_why_it_is_there(recipe):
    config = load(SCHEMAS[recipe], recipe)
    assert config.steps is None  # all
    assert Path(recipe).read_text().startswith("# ")


def test_the_seed_refines_as_the_demos_model_does_and_is_the_one_they_are_compared_with():
    folder = Path("conf/miniature")
    trained, seed, plain = (
        load(EvaluateConfig, folder / f"{name}.yaml")
        for name in ("evaluate", "self_refine", "baseline")
    )
    assert seed.policy == plain.policy
    assert len({config.run_dir for config in (trained, seed, plain)}) == 3
    for same in (seed, plain):
        assert replace(same.policy, model=trained.policy.model) == trained.policy
        assert same.prompts == trained.prompts
    own = {"run_dir": trained.run_dir, "name": trained.name, "policy": trained.policy}
    assert replace(seed, **own) == trained
    assert trained.baseline.path == f"{plain.run_dir}/outputs.json"


def evaluate(*overrides):
    words = [CORRECTOR, f"baseline.path={ANSWERS}", *overrides]
    return planned(load(EvaluateConfig, "conf/miniature/evaluate.yaml", words))


def refine(*overrides):
    words = [f"answers.path={ANSWERS}", *overrides]
    return planned(load(RefineConfig, "conf/miniature/refine.yaml", words))


def test_plans_name_the_pools_and_the_texts_of_a_prompt():
    (answer,) = evaluate()
    assert [(pool.name, pool.samples) for pool in answer.pools] == [("policy", 1 + 2 * 2)]
    reward = "{model: avr/miniature/models/reward, use_gpu: false}"
    plans = evaluate("judge.kind=reward_model", f"judge.reward_model={reward}")
    assert [(p.step, p.pools[0].name, p.pools[0].samples) for p in plans] == [
        ("answer", "policy", 5),
        ("judge", "reward_model", 2),
    ]
    assert [p.step for p in evaluate("steps=[judge]")] == []
    (answer,) = evaluate("tree.num_critiques=2", "tree.num_refinements=2")
    assert answer.pools[0].samples == 1 + 2 * (2 + 4)
    (step,) = refine("tree.num_critiques=2", "tree.num_refinements=3", "rounds=2")
    assert [(pool.name, pool.samples) for pool in step.pools] == [
        ("policy", 2 * (2 + 6)),
        ("reward_model", 1 + 2 * 6),
    ]
    (step,) = refine("reward_model=null")
    assert [pool.name for pool in step.pools] == ["policy"]


def test_arena_hards_own_records_are_a_baseline_though_they_hold_no_prompt(tmp_path):
    records = tmp_path / "records.jsonl"
    records.write_text('{"question_id": "q0", "choices": [{"turns": [{"content": "no"}]}]}\n')
    words = [f"baseline.path={records}", "baseline.answer_field=null"]
    (answer,) = evaluate(*words, "format=arena_hard")
    assert answer.step == "answer"


ENDPOINT = ("judge.kind=endpoint", "judge.endpoint.model=gpt")
OPENAI_KEY = "judge.endpoint.api_key_variable=OPENAI_API_KEY"


@pytest.mark.parametrize("address", ["http://judge.example.org:8000/v1", "https://example.org/v1"])
def test_a_server_of_one_s_own_needs_no_key(address):
    (answer,) = evaluate(*ENDPOINT, f"judge.endpoint.base_url={address}")
    assert answer.step == "answer"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["rounds=0"], "rounds is 0, and mode refine needs at least 1"),
        (["baseline=null", "steps=[judge]"], "baseline is not set, and step judge needs it"),
        (
            [
                "judge.kind=endpoint",
                "judge.endpoint.model=gpt",
                "judge.endpoint.api_key_variable=NO_KEY",
            ],
            "NO_KEY is not set: it must hold the key for https://api.openai.com/v1",
        ),
        (
            [*ENDPOINT, "judge.endpoint.base_url=http://judge.example.org/v1", OPENAI_KEY],
            "the key in OPENAI_API_KEY would go to judge.example.org unencrypted; use https://",
        ),
        (
            [*ENDPOINT, "judge.endpoint.base_url=https://judge.example.org/v1", OPENAI_KEY],
            "OPENAI_API_KEY is not set: it must hold the key for https://judge.example.org/v1",
        ),
        ([*ENDPOINT, "judge.endpoint.base_url=localhost"], "is 'localhost', must have the form"),
        (
            ["judge.kind=reward_model", "judge.reward_model={model: /none, use_gpu: false}"],
            "judge.reward_model.model",
        ),
        (["mode=plain"], "rounds is 2, and mode plain has none"),
        (["judge.kind=endpoint"], "judge.endpoint.model is not set: which model is to judge?"),
        (["judge.kind=reward_model"], "but judge.reward_model is not set"),
        (["judge.oracle=null"], "judge.kind is oracle, but judge.oracle is not set"),
        (["judge.oracle=avr.miniature.oracle:nothing"], "is no module:function"),
        (["baseline.answer_field=null"], "baseline.answer_field is not set"),
        (["baseline.path=/no/such/file.json"], "baseline.path: no answers at /no/such/file.json"),
        (["prompts.path=/no/such/file.json"], "no prompts at /no/such/file.json (for step answer)"),
        (["name=a/b"], "name is 'a/b', which is to be the name of a file"),
        (["steps=[answr]"], "unknown step 'answr'; there are: answer, judge"),
        (["steps=[]"], "steps is empty; there are: answer, judge"),
        (["judge.endpoint.max_tries=0"], "judge.endpoint.max_tries is 0, must be at least 1"),
        (["policy.model=/no/such/model"], "/no/such/model"),
        (["policy.sampling.temprature=1"], "temprature"),
        (["trajectories.template=thnk"], "trajectories.template 'thnk': there are"),
        (["judge.endpoint.request={api_key: x}"], "cannot be set: put secrets in"),
    ],
)
def test_an_evaluation_that_cannot_work_is_refused(overrides, words, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError) as caught:
        evaluate(*overrides)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["rounds=0"], "rounds is 0, must be at least 1"),
        (["answers.answer_field=null"], "answers.answer_field is not set"),
        (["answers.path=null"], "the prompts of step refine: path is not set"),
        (["reward_model.model=avr/miniature/models/policy"], "reward_model.model"),
        (["oracle=nothing"], "is no module:function"),
    ],
)
def test_refining_that_cannot_work_is_refused(overrides, words):
    with pytest.raises(ConfigError) as caught:
        refine(*overrides)
    assert words in str(caught.value)
