"""Stage II and answering: recipes, what steps need, and what is wrong before anything starts."""

import ast
import asyncio
import shutil
from dataclasses import make_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from configured import checked, needs, planned, recipe_of, steps_of
from scripted import TEMPLATES, ScriptedGenerate, ScriptedScore

from avr.config.answers import Mode
from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.rows import template_of
from avr.core.growth import Shape
from avr.core.messages import user
from avr.core.search import search
from avr.core.trajectory import TRAJECTORY_TEMPLATES, TrajectoryTemplate
from avr.core.tree import Prompt, plant
from avr.miniature.making.thinking import TEMPLATE
from avr.recipes.answer import AnswerConfig
from avr.recipes.stage2 import Stage2Config
from avr.training.methods.dpo import Dpo
from avr.training.methods.rsft import Rsft

RECIPES = sorted(Path("conf").glob("*/stage2.yaml"))
MINIATURE, LLAMA = Path("conf/miniature/stage2.yaml"), Path("conf/llama3_8b/stage2.yaml")
ANSWER = Path("conf/miniature/answer.yaml")
OWN = "trajectories.templates.mine"
MINE = ["trajectories.template=mine"] + [
    f"{OWN}.{name}='{text}'"
    for name, text in (("start", "[a]"), ("critique", "[b]"), ("refinement", "[c]"), ("end", "[d]"))
]


def stage2(*overrides, recipe=MINIATURE):
    return load(Stage2Config, recipe, overrides)


def fields_in(package, file, name):
    """The annotated fields of a class, read as text: importing TRL takes seconds."""
    tree = ast.parse((Path(find_spec(package).origin).parent / file).read_text())
    (found,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    return {node.target.id for node in found.body if isinstance(node, ast.AnnAssign)}


def trl_arguments(name):
    """Stands in for TRL's configuration classes, with the same fields."""
    names = fields_in("transformers", "training_args.py", "TrainingArguments")
    names |= fields_in("trl", "trainer/base_config.py", "_BaseConfig")
    names |= fields_in("trl", f"trainer/{name[:3].lower()}_config.py", name)
    return make_dataclass(name, [(each, Any) for each in sorted(names)])


@pytest.fixture
def stage1_dir(tmp_path, monkeypatch):
    """A run directory of Stage I with a model in it; TRL need not be imported to check names."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(Rsft, "arguments", lambda _: trl_arguments("SFTConfig"))
    monkeypatch.setattr(Dpo, "arguments", lambda _: trl_arguments("DPOConfig"))
    model = tmp_path / "stage1" / "dpo"
    shutil.copytree("avr/miniature/models/policy", model)
    return f"stage1_dir={model.parent}"


def wrong(check, *arguments, **more):
    with pytest.raises(ConfigError) as caught:
        check(*arguments, **more)
    return str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_every_recipe_passes_all_checks_and_says_why_it_is_there(recipe, stage1_dir):
    config = stage2(stage1_dir, recipe=recipe)
    seed = Path("tests/models", str(config.seed_model))
    if seed.is_dir():  # Stage I's model has the architecture of its seed, which LoRA's names fit
        shutil.copytree(seed, config.policy.model, dirs_exist_ok=True)
    assert {step.step for step in checked(config)} >= {"search", "rsft", "sample", "dpo"}
    assert recipe.read_text().startswith("# ")


def test_there_are_the_two_recipes_and_the_one_to_answer():
    assert {MINIATURE, LLAMA} <= set(RECIPES)
    assert load(AnswerConfig, ANSWER).policy.model == f"{stage2().run_dir}/dpo"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_policy_is_the_last_model_of_the_stage_1_run_that_is_named(recipe):
    assert stage2(recipe=recipe).policy.model == f"{stage2(recipe=recipe).stage1_dir}/dpo"
    assert stage2("stage1_dir=/shared/mine", recipe=recipe).policy.model == "/shared/mine/dpo"


def test_steps_and_their_pools_are_planned():
    plans = {step.step: step for step in needs(stage2())}
    assert list(plans) == ["search", "rsft", "sample", "dpo", "evaluate"]
    for step in ("search", "sample", "evaluate"):
        assert [pool.name for pool in plans[step].pools] == ["policy", "reward_model"]
        assert plans[step].least() == (2.5, 0)
    for step in ("rsft", "dpo"):
        assert [pool.name for pool in plans[step].pools] == ["training worker"]
        assert plans[step].least() == (2, 0)
    assert [name for name, p in plans.items() if p.pools[0].trained] == ["sample", "dpo"]
    assert [name for name, plan in plans.items() if plan.whole] == ["sample", "evaluate"]
    assert [s.step for s in needs(stage2("steps=[pair,dpo,search]"))] == ["search", "dpo"]


def test_without_an_evaluation_nothing_is_planned_for_it():
    assert "evaluate" not in {step.step for step in needs(stage2(recipe=LLAMA))}
    assert {step.least()[1] for step in needs(stage2(recipe=LLAMA))} == {4 + 2, 8}


@pytest.mark.parametrize(("depth", "critiques", "refinements"), [(1, 1, 1), (3, 2, 4), (5, 3, 2)])
def test_planned_texts_are_those_of_a_search_that_always_improves(depth, critiques, refinements):
    shape = Shape(critiques, refinements)
    overrides = [f"max_depth={depth}", f"tree.num_critiques={critiques}"]
    (plan,) = needs(stage2(*overrides, f"tree.num_refinements={refinements}", "steps=[search]"))
    says = {"CRITIQUE?": "fine as it is Rating: [[7]]"}
    policy = ScriptedGenerate(
        lambda asked, number, _: says.get(asked[-1].content, "a" * (number + 1))
    )
    scorer, tree = ScriptedScore(len), plant(Prompt.of((user("question"),)), "recipe")
    asyncio.run(search(tree, policy, scorer.alone, TEMPLATES, shape, depth))
    num_texts = sum(n for _, n, _ in policy.requests)
    assert [pool.samples for pool in plan.pools] == [num_texts, len(scorer.requests)]
    assert num_texts == 1 + depth * (critiques + critiques * refinements)


def test_planned_outputs_and_rounds_of_evaluation_are_the_most_there_can_be():
    overrides = ["outputs.num_outputs=7", "evaluation.rounds.seed=4", "evaluation.rounds.stage1=3"]
    plans = {step.step: step for step in needs(stage2(*overrides))}
    assert [pool.samples for pool in plans["sample"].pools] == [7, 7]
    refining, recursive = (4, 3), 2
    texts = sum(1 + 2 * rounds for rounds in refining) + recursive
    rewards = sum(1 + rounds for rounds in refining) + recursive
    assert [pool.samples for pool in plans["evaluate"].pools] == [texts, rewards]


def test_answering_is_one_step_with_one_pool(stage1_dir):
    model = stage1_dir.partition("=")[2] + "/dpo"
    config = load(AnswerConfig, ANSWER, [f"policy.model={model}", "policy.max_replicas=3"])
    (plan,) = checked(config)
    assert (plan.step, plan.least()) == ("answer", (1.5, 0))
    (pool,) = plan.pools
    assert (pool.name, pool.model, pool.max_replicas, pool.samples) == ("policy", model, 3, 1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.model=/none", "no model folder at /none"),
        ("prompts.path=none.jsonl", "no prompts at none.jsonl (for step answer)"),
        ("prompts.path=null", "the prompts of step answer: path is not set"),
        ("max_tries=0", "max_tries is 0, must be at least 1"),
        ("queries.queries_per_task=0", "queries.queries_per_task is 0"),
        ("policy.min_replicas=2", "policy.max_replicas 1 < min_replicas 2"),
        ("policy.sampling.max_token=2", "did you mean 'max_tokens'?"),
        ("trajectories.template=thinc", "trajectories.template 'thinc': there are miniature,"),
    ],
)
def test_what_is_wrong_with_answering_is_named(stage1_dir, override, message):
    model = stage1_dir.partition("=")[2] + "/dpo"
    config = load(AnswerConfig, ANSWER, [f"policy.model={model}", override])
    assert message in wrong(checked, config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_depth=0", "max_depth is 0, must be at least 1"),
        ("tree.num_critiques=0", "tree.num_critiques is 0"),
        ("outputs.num_outputs=1", "outputs.num_outputs is 1, must be at least 2"),
        ("outputs.max_tries=0", "outputs.max_tries is 0"),
        ("pairs.per_prompt=0", "pairs.per_prompt is 0, must be at least 1"),
        ("pairs.max_pairs=0", "pairs.max_pairs is 0, must be at least 1"),
        (
            "pairs.per_prompt=3",
            "pairs.per_prompt is 3, which takes 6 outputs of a prompt; outputs.",
        ),
        ("trajectories.unchanged_share=1.5", "trajectories.unchanged_share"),
        ("trajectories.unchanged_share=-0.1", "trajectories.unchanged_share is -0.1"),
        ("pairs.malformed_share=1", "pairs.malformed_share is 1.0, must lie below 1"),
        ("trajectories.min_gain=-1", "trajectories.min_gain is -1"),
        ("queries.queries_per_task=0", "queries.queries_per_task is 0"),
        ("serving.max_ongoing_requests=0", "serving.max_ongoing_requests is 0"),
        ("serving.target_ongoing_requests=0.5", "serving.target_ongoing_requests is 0.5"),
        ("policy.min_replicas=0", "policy.min_replicas is 0"),
        ("reward_model.min_replicas=3", "reward_model.max_replicas 1 < min_replicas 3"),
        ("evaluation.rounds.dpo=1", "rounds.dpo: no such model; there are: seed, stage1"),
        ("steps=[search,serch]", "unknown step 'serch'; there are: search, unroll, rsft"),
    ],
)
def test_values_no_type_excludes_are_refused(override, message):
    assert message in wrong(planned, stage2(override))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stage1_dir=/none", "stage1_dir: no folder /none; jobs/stage1.py makes one"),
        ("prompts.search.path=null", "the prompts of step search: path is not set"),
        ("prompts.sample.path=none.jsonl", "no prompts at none.jsonl (for step sample)"),
        ("policy.model=/none", "no model folder at /none"),
        ("reward_model.model=./none", "no model folder at ./none"),
        ("seed_model=avr/miniature/none", "seed_model: no model folder at avr/miniature/none"),
        ("trajectories.profile=as_was", "trajectories: unknown profile 'as_was'; there are: "),
        ("trajectories.switches.closd=1", "trajectories: unknown rule 'closd'; did you mean 'cl"),
        ("pairs.profile=none", "pairs: unknown profile 'none'; there are: as_released"),
        ("pairs.switches.short=false", "pairs: unknown rule 'short'; there are: "),
        ("policy.engine.max_num_seq=1", "policy.engine.max_num_seq is no vLLM setting; did you"),
        ("policy.sampling.temprature=1", "did you mean 'temperature'?"),
        ("policy.sampling.n=2", "policy.sampling.n is set by the growth"),
        ("reward_model.engine.dtyp=float32", "did you mean 'dtype'?"),
        ("rsft.trl.learning_rat=1", "rsft.trl.learning_rat is no field of TRL's SFTConfig; did"),
        ("dpo.trl.bta=1", "dpo.trl.bta is no field of TRL's DPOConfig; did you mean 'beta'?"),
        ("dpo.trl.output_dir=x", "dpo.trl.output_dir cannot be set"),
        ("dpo.num_workers=0", "dpo.num_workers is 0"),
        ("trajectories.template=thnk", "trajectories.template 'thnk': there are miniature, "),
    ],
)
def test_what_would_fail_later_is_found_before_anything_starts(stage1_dir, override, message):
    assert message in wrong(checked, stage2(stage1_dir, override))


def test_prompts_of_steps_that_are_not_asked_for_need_not_be_there(stage1_dir):
    checked(stage2(stage1_dir, "prompts.search.path=none.jsonl", "steps=[sample,pair,dpo]"))


def test_relative_run_dir_is_refused_on_a_cluster(stage1_dir, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert "must be an absolute path" in wrong(checked, stage2(stage1_dir))


def test_misspelt_keys_suggest_the_ones_meant(tmp_path):
    file = tmp_path / "stage2.yaml"
    file.write_text(MINIATURE.read_text().replace("trajectories:", "trajectory:"))
    message = wrong(stage2, recipe=file)
    assert str(file) in message and "did you mean 'trajectories'?" in message
    assert "did you mean 'max_depth'?" in wrong(stage2, "max_dept=3")
    assert "did you mean 'outputs.num_outputs'?" in wrong(stage2, "outputs.num_output=3")
    assert "did you mean 'max_tries'?" in wrong(load, AnswerConfig, ANSWER, ["max_try=3"])


def test_trajectory_template_is_found_by_name_ones_own_first():
    for name, template in TRAJECTORY_TEMPLATES.items():
        assert template_of(stage2(f"trajectories.template={name}").trajectories) == template
    mine = TrajectoryTemplate("[a]", "[b]", "[c]", "[d]")
    assert template_of(stage2(*MINE).trajectories) == mine
    message = wrong(template_of, stage2(*MINE, "trajectories.template=yours").trajectories)
    names = "mine, miniature, released, think"
    assert message == f"trajectories.template 'yours': there are {names}"


def test_own_template_that_cannot_be_told_apart_is_refused_by_its_name(stage1_dir):
    config = stage2(stage1_dir, *MINE, f"{OWN}.end='[b]'")
    assert wrong(template_of, config.trajectories).startswith(f"{OWN}: trajectory template: the ")
    assert wrong(checked, config).startswith(f"{OWN}: ")
    assert f"no value for {OWN}.critique, {OWN}.end" in wrong(stage2, f"{OWN}.start=x")


def test_miniature_recipes_and_documents_have_one_trajectory_template():
    assert template_of(stage2().trajectories) == TEMPLATE
    assert template_of(load(AnswerConfig, ANSWER).trajectories) == TEMPLATE


def test_what_a_baseline_does_is_refused_with_the_job_that_does_it():
    with pytest.raises(ConfigError, match=r"'plain', which has no loop .* jobs/baseline\.py"):
        recipe_of(stage2("trajectories.template=plain"))


@pytest.mark.parametrize("name", ["baseline_dpo", "baseline_simpo", "meta_rewarding"])
def test_a_baseline_s_file_is_refused_with_its_job(name):
    with pytest.raises(ConfigError, match=r"jobs/baseline\.py"):
        recipe_of(load(Stage2Config, f"conf/miniature/{name}.yaml"))


def test_what_rsft_has_learned_is_sampled_and_paired_and_goes_on_into_dpo():
    config = stage2()
    steps = steps_of(config)
    search, rsft, sample, dpo = (steps[name] for name in ("search", "rsft", "sample", "dpo"))
    assert (search.prompts, sample.prompts) == (config.prompts.search, config.prompts.sample)
    assert sample.weights is rsft and sample.apart_from[0] is search
    assert dpo.base is rsft and dpo.origin() == rsft.base == config.policy.model
    assert (rsft.method, dpo.method) == (Rsft(), Dpo())
    assert steps["unroll"].template == sample.template == TEMPLATE


def test_two_models_refine_when_asked_and_two_by_themselves():
    config = stage2("evaluation.rounds.stage1=4")
    steps = steps_of(config)
    evaluate = steps["evaluate"]
    assert [(each.name, each.mode, each.rounds) for each in evaluate.entrants] == [
        ("seed", Mode.refine, 0),
        ("stage1", Mode.refine, 4),
        ("stage2 rsft", Mode.recursive, 0),
        ("stage2 dpo", Mode.recursive, 0),
    ]
    seed, stage1, rsft, dpo = evaluate.entrants
    assert (seed.model, seed.at) == (config.seed_model, "seed_model")
    assert (stage1.model, stage1.at) == (config.policy.model, "policy.model")
    assert rsft.model is steps["rsft"] and dpo.model is steps["dpo"]
    assert rsft.sampling == dpo.sampling == config.outputs.sampling
    assert evaluate.used_in == (config.stage1_dir,)  # held-out prompts are not among its prompts
    assert steps_of(stage2("stage1_dir=null", "policy.model=m"))["evaluate"].used_in == ()
