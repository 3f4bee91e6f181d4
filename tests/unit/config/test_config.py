from pathlib import Path

import pytest
from configured import checked, needs

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.roles import Placement, RoleConfig
from avr.engines.settings import _ONLY_SPEED, _fields, check_role, text_settings
from avr.recipes.stage1 import Stage1Config
from avr.rewards.reward import reward_of

RECIPES = sorted(Path("conf").glob("*/stage1.yaml"))
PLUMBING = ["prompts.rsft.path=outputs.json"]
MINIMAL = """
run_dir: here
prompts: {rsft: {path: a.jsonl}, dpo: {path: b.jsonl}}
policy: {model: m, sampling: {max_tokens: 8}}
reward_model: {model: r}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "stage1.yaml"
    path.write_text(MINIMAL)
    return path


def wrong(file, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(Stage1Config, file, overrides)
    return str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.parent.name)
def test_every_recipe_loads_plans_and_says_why_it_is_there(recipe):
    config = load(Stage1Config, recipe)
    assert {step.step for step in needs(config)} >= {"grow_rsft", "rsft", "grow_dpo", "dpo"}
    assert recipe.read_text().startswith("# ")


def test_recipe_for_alpaca_eval_outputs_wants_its_file_named():
    file = "conf/miniature/alpaca_eval.yaml"
    with pytest.raises(ConfigError, match="the prompts of step grow_rsft: path is not set"):
        checked(load(Stage1Config, file))
    assert [s.step for s in needs(load(Stage1Config, file, PLUMBING))] == ["grow_rsft"]


def test_there_are_the_two_recipes():
    assert {r.parent.name for r in RECIPES} >= {"miniature", "llama3_8b"}


def test_file_then_overrides_win_over_defaults(file):
    config = load(Stage1Config, file, ["tree.num_critiques=3", "growth.placement=waves"])
    assert config.tree.num_critiques == 3
    assert config.tree.num_refinements == 2
    assert config.growth.placement is Placement.waves
    assert config.corrector is None


@pytest.mark.parametrize("there", ["nowhere.to", "oc.env:NOWHERE_TO"])
def test_an_interpolation_of_what_is_not_there_names_the_file_and_the_key(file, there):
    broken = f"run_dir=${{{there}}}/run"
    assert wrong(file, broken).startswith(f"{file} with its overrides: run_dir: ")
    other = file.with_name("other.yaml")
    other.write_text(f"extends: {file.name}\n{broken.replace('=', ': ')}\n")
    said = wrong(other)
    assert said.startswith(f"{other}: run_dir: ") and there.rpartition(":")[2] in said


def test_unknown_key_suggests_the_one_meant(file):
    assert "did you mean 'tree.num_critiques'?" in wrong(file, "tree.num_critique=2")
    assert "did you mean 'tree.num_critiques'?" in wrong(file, "num_critiques=2")
    assert "did you mean 'policy.model'?" in wrong(file, "policy.modle=x")


def test_unknown_key_in_the_file_names_the_file(file):
    file.write_text(MINIMAL + "selektion: {}\n")
    assert str(file) in wrong(file)
    assert "'selection'" in wrong(file)


def test_wrong_type_names_the_key(file):
    message = wrong(file, "tree.num_critiques=many")
    assert "tree.num_critiques" in message
    assert "many" in message
    assert "[resident, waves]" in wrong(file, "growth.placement=both")


def test_missing_values_and_files_are_named(file):
    file.write_text("run_dir: here\n")
    assert "policy.model" in wrong(file)
    assert "no such configuration" in wrong(file.with_name("none.yaml"))
    file.write_text("run_dir: [\n")
    assert "line 2" in wrong(file)


def test_a_file_comes_over_those_it_extends_and_under_the_overrides(file, tmp_path):
    (tmp_path / "mine").mkdir()
    second, third = tmp_path / "second.yaml", tmp_path / "mine/third.yaml"
    second.write_text("extends: stage1.yaml\nrun_dir: there\npolicy: {sampling: {top_p: 0.5}}\n")
    third.write_text(
        "extends: ../second.yaml\n"
        "policy: {model: n, engine: {max_num_seqs: 7}}\n"
        "rsft: {trl: {loss_type: [a, b]}}\n"
    )
    config = load(Stage1Config, third, ["rsft.trl.loss_type=c", "tree.num_critiques=3"])
    assert (config.run_dir, config.reward_model.model, config.policy.model) == ("there", "r", "n")
    assert config.policy.sampling == {"max_tokens": 8, "top_p": 0.5}
    assert config.policy.engine == {"max_num_seqs": 7}
    assert config.rsft.trl == {"loss_type": "c"}
    assert config.tree.num_critiques == 3
    second.write_text(f"extends: {file}\n")  # nothing of its own, and a whole path
    assert load(Stage1Config, second) == load(Stage1Config, file)


def test_lists_of_the_extended_file_are_replaced_and_references_see_what_is_on_top(file):
    file.write_text(MINIMAL.replace("model: r", "model: '${run_dir}/r'") + "steps: [a, b]\n")
    mine = file.with_name("mine.yaml")
    mine.write_text("extends: stage1.yaml\nrun_dir: there\nsteps: [c]\n")
    config = load(Stage1Config, mine)
    assert config.reward_model.model == "there/r"
    assert config.steps == ["c"]


def test_what_is_wrong_in_an_extended_file_is_said_of_that_file(file):
    mine = file.with_name("mine.yaml")
    mine.write_text("extends: stage1.yaml\nrun_dir: there\n")
    file.write_text(MINIMAL + "selektion: {}\n")
    assert wrong(mine).startswith(f"{file}: unknown key 'selektion'")
    file.write_text("run_dir: [\n")
    assert wrong(mine).startswith(f"{file}: ") and "line 2" in wrong(mine)
    file.write_text(MINIMAL)
    mine.write_text("extends: stage1.yaml\nselektion: {}\n")
    assert wrong(mine).startswith(f"{mine}: unknown key 'selektion'")
    mine.write_text("policy: {extends: stage1.yaml}\n")  # a whole file, or nothing
    assert wrong(mine).startswith(f"{mine}: unknown key 'policy.extends'")
    assert "override 'extends=stage1.yaml': unknown key 'extends'" in wrong(
        file, "extends=stage1.yaml"
    )


@pytest.mark.parametrize("value", ["null", "3", "[stage1.yaml]", "{path: stage1.yaml}", "true"])
def test_an_extended_file_is_named_by_text(file, value):
    file.write_text(f"extends: {value}\n" + MINIMAL)
    assert wrong(file).startswith(f"{file}: extends is ")
    assert wrong(file).endswith(", not the name of a file")


def test_an_extended_file_that_is_not_there_is_said_by_whom_it_was_named(file, tmp_path):
    for name in ("none.yaml", "''", "${run_dir}.yaml", "'???'"):
        file.write_text(f"extends: {name}\n" + MINIMAL)
        missing = tmp_path / name.strip("'")
        assert wrong(file) == f"{file}: extends: no such configuration file: {missing}"


def test_files_that_extend_each_other_are_refused(file):
    file.write_text("extends: stage1.yaml\n" + MINIMAL)
    assert wrong(file) == f"{file}: extends goes in a circle: {file} -> {file}"
    second, third = file.with_name("second.yaml"), file.with_name("third.yaml")
    second.write_text("extends: third.yaml\n")
    third.write_text("extends: second.yaml\n")
    file.write_text("extends: second.yaml\n" + MINIMAL)
    circle = f"{file} -> {second} -> {third} -> {second}"
    assert wrong(file) == f"{third}: extends goes in a circle: {circle}"
    file.write_text(f"extends: ../{file.parent.name}/stage1.yaml\n" + MINIMAL)  # in other words
    assert wrong(file).startswith(f"{file}: extends goes in a circle: {file} -> ")


def test_foreign_settings_pass_through_under_their_own_names(file):
    config = load(Stage1Config, file, ["policy.engine.max_num_seqs=7", "rsft.trl.beta_x=1"])
    assert config.policy.engine == {"max_num_seqs": 7}
    assert config.rsft.trl == {"beta_x": 1}
    assert config.rsft.deepspeed["zero_optimization"]["stage"] == 3


def test_values_no_type_excludes_are_refused():
    for override, message in (
        ("tree.num_critiques=0", "tree.num_critiques"),
        ("policy.min_replicas=3", "policy.max_replicas 1 < min_replicas 3"),
        ("prompts.dpo.path=null", "the prompts of step grow_dpo: path is not set"),
    ):
        config = load(Stage1Config, "conf/miniature/stage1.yaml", [override])
        with pytest.raises(ConfigError, match=message):
            checked(config)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.parent.name)
def test_every_setting_of_a_recipe_is_one_vllm_has(recipe):
    config = load(Stage1Config, recipe)
    check_role("policy", config.policy)
    for name, role in reward_of(config.reward, config.reward_model).pools.items():
        check_role(name, role, scores=True)
    if config.corrector is not None:
        check_role("corrector", config.corrector)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engine": {"max_num_seq": 8}}, "policy.engine.max_num_seq is .* 'max_num_seqs'"),
        ({"sampling": {"max_tokens": 8, "temprature": 1}}, "did you mean 'temperature'"),
        ({"sampling": {}}, "policy.sampling.max_tokens is not set"),
        ({"sampling": {"max_tokens": 8, "seed": 1}}, "set by the growth"),
    ],
)
def test_settings_vllm_does_not_know_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        check_role("policy", RoleConfig(**{"model": "m", "sampling": {"max_tokens": 8}, **change}))


def test_plan_sums_pools_when_resident_and_takes_the_largest_in_waves():
    config = load(Stage1Config, "conf/llama3_8b/stage1.yaml")
    grow = needs(config)[0]
    assert grow.least()[1] == 2 * 1 + 2 * 2 + 1 * 2
    config.growth.placement = Placement.waves
    assert needs(config)[0].least()[1] == 4


def test_engines_that_share_a_gpu_take_their_share_of_it():
    config = load(
        Stage1Config,
        "conf/llama3_8b/stage1.yaml",
        ["policy.gpu_share=0.25", "policy.engine.gpu_memory_utilization=0.2"],
    )
    assert needs(config)[0].least()[1] == 2 * 0.25 + 2 * 2 + 1 * 2
    config.policy.engine["gpu_memory_utilization"] = 0.9
    with pytest.raises(ConfigError, match=r"gpu_memory_utilization is 0\.9; it must be at most"):
        checked(config)
    config.policy.gpu_share = 1.0
    config.corrector.gpu_share = 0.5
    with pytest.raises(ConfigError, match=r"0\.5, but .*engine\.tensor_parallel_size is 2"):
        checked(config)


def test_mistyped_paths_are_found_before_anything_starts(tmp_path):
    def wrong(*overrides):
        config = load(Stage1Config, "conf/miniature/stage1.yaml", overrides)
        with pytest.raises(ConfigError) as caught:
            checked(config)
        return str(caught.value)

    assert "no prompts at none.jsonl (for step grow_dpo)" in wrong("prompts.dpo.path=none.jsonl")
    assert "no model folder at /none" in wrong("reward_model.model=/none")
    checked(load(Stage1Config, "conf/miniature/stage1.yaml"))


def test_a_run_may_go_on_with_other_batches_but_not_with_other_texts():
    fast = {"max_num_seqs": 8, "tensor_parallel_size": 2, "dtype": "float32"}
    assert text_settings(fast) == text_settings({"max_num_seqs": 256, "dtype": "float32"})
    for other in ({"dtype": "bfloat16"}, {"dtype": "float32", "quantization": "fp8"}):
        assert text_settings(fast) != text_settings(other)
    assert _fields("engine/arg_utils.py", "EngineArgs") >= _ONLY_SPEED  # vLLM renames them


RSFT = "avr/miniature/data/rsft.jsonl"


@pytest.mark.parametrize(
    ("rows", "apart"),
    [
        (("prompts.dpo.limit=600",), False),
        (("prompts.dpo.skip=100", "prompts.dpo.limit=500"), False),
        (("prompts.dpo.skip=600", "prompts.dpo.limit=100"), True),
        (("prompts.dpo.skip=500", "prompts.dpo.limit=null"), True),  # some are new
        (("prompts.dpo.limit=600", "steps=[grow_rsft,select]"), True),
    ],
)
def test_rows_that_the_first_growth_has_are_refused_before_it_begins(rows, apart):
    recipe = "conf/miniature/stage1.yaml"
    config = load(Stage1Config, recipe, [f"prompts.dpo.path={RSFT}", *rows])
    if apart:
        checked(config)
    else:
        with pytest.raises(ConfigError, match="the two growths need different prompts"):
            checked(config)
