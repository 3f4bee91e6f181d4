"""Recipes that no test here can run, through vLLM's own check of its configuration; no engine."""

import json
from pathlib import Path

import pytest
from vllm.config import ParallelConfig
from vllm.engine.arg_utils import EngineArgs

from avr.checks.models import prepared
from avr.checks.settings import GpuCheckConfig
from avr.config.answers import EvaluateConfig, RefineConfig
from avr.config.load import load
from avr.config.roles import RoleConfig
from avr.engines.engine import engine_settings
from avr.engines.shape import heads, num_labels, positions
from avr.recipes.baseline import BaselineConfig
from avr.recipes.rft import RftConfig
from avr.recipes.stage1 import Stage1Config
from avr.recipes.stage2 import Stage2Config
from avr.recipes.table import TableConfig
from avr.storage import location

pytestmark = pytest.mark.integration
MODELS = Path("tests/models")
LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"
FOLDERS = ("llama3_8b", "one_gpu", "maths_8gpu", "code_8gpu")  # of recipes for GPUs
JOBS = {
    "stage1": Stage1Config,
    "stage2": Stage2Config,
    "evaluate": EvaluateConfig,
    "refine": RefineConfig,
    "baseline": BaselineConfig,
    "rft": RftConfig,
    "table": TableConfig,
}
SCHEMAS = {
    f"{folder}/{file.stem}": JOBS[file.stem.partition("_")[0]]
    for folder in FOLDERS
    for file in sorted(Path("conf", folder).glob("*.yaml"))
} | {"miniature/one_gpu": Stage1Config, "gpu_check": GpuCheckConfig}


def roles_of(recipe, overrides=()):
    config = load(SCHEMAS[recipe], f"conf/{recipe}.yaml", overrides)
    roles = {name: getattr(config, name, None) for name in ("policy", "corrector", "reward_model")}
    return {name: role for name, role in roles.items() if role is not None}


ENGINES = [(recipe, role) for recipe in SCHEMAS for role in roles_of(recipe)]


def folder_of(recipe, model):
    """Models that runs leave have the shape of the policy that their Stage I starts from."""
    if Path(model).is_dir():
        return Path(model)
    if model.startswith("runs/"):
        model = roles_of(f"{recipe.partition('/')[0]}/stage1")["policy"].model
    return MODELS / model


def checked_by_vllm(role: RoleConfig, folder, *, scores=False):
    """What vLLM makes of a role's settings before it loads anything. Raises its ValueError."""
    arguments = EngineArgs(
        model=str(folder), skip_tokenizer_init=True, **engine_settings(role, scores=scores)
    )
    model = arguments.create_model_config()
    size = arguments.tensor_parallel_size
    model.verify_with_parallel_config(ParallelConfig(tensor_parallel_size=size))
    return model


def test_there_is_no_other_recipe():
    """The others are run by tests and by `make demo`, on a CPU, or made for one."""
    on_cpus = {"miniature", "maths", "code"}
    assert {folder.name for folder in Path("conf").iterdir() if folder.is_dir()} == on_cpus | {
        *FOLDERS
    }


@pytest.mark.parametrize(("recipe", "name"), ENGINES, ids=[":".join(e) for e in ENGINES])
def test_vllm_takes_the_settings_of_every_engine_of_a_recipe(recipe, name, tmp_path):
    role, folder = roles_of(recipe)[name], folder_of(recipe, roles_of(recipe)[name].model)
    if recipe == "gpu_check":  # which widens models until their heads can be shared
        size = role.engine["tensor_parallel_size"]
        folder = Path(prepared(role.model, location(tmp_path / "model"), size))
    model = checked_by_vllm(role, folder, scores=name == "reward_model")
    config = json.loads((folder / "config.json").read_text())
    assert model.max_model_len == role.engine["max_model_len"] <= positions(config)
    arch = model.model_arch_config
    assert (arch.total_num_attention_heads, arch.total_num_kv_heads) == heads(config)
    if name == "reward_model":
        assert model.hf_config.num_labels == num_labels(config) == 1
        assert model.runner_type == "pooling"


@pytest.mark.parametrize("recipe", ["llama3_8b/stage2", "llama3_8b/evaluate_arena"])
def test_vllm_refuses_twice_the_positions_of_the_policy(recipe):
    role = roles_of(recipe, ["policy.engine.max_model_len=16384"])["policy"]
    with pytest.raises(ValueError, match=r"max_model_len \(16384\) is greater than the derived"):
        checked_by_vllm(role, folder_of(recipe, role.model))


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 2.0},
        {"type": "dynamic", "factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 1024,
        },
    ],
    ids=lambda rope: rope.get("rope_type", "dynamic"),
)
def test_positions_are_those_that_vllm_derives(rope, tmp_path):
    config = json.loads((MODELS / LLAMA / "config.json").read_text()) | {"rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps(config))
    role = RoleConfig(model=LLAMA, engine={"dtype": "bfloat16"})
    assert checked_by_vllm(role, folder=tmp_path).max_model_len == positions(config)


@pytest.mark.parametrize("size", [3, 64])
def test_vllm_refuses_sizes_that_do_not_divide_the_heads(size):
    role = RoleConfig(model=LLAMA, engine={"max_model_len": 64, "tensor_parallel_size": size})
    with pytest.raises(ValueError, match="must be divisible by tensor parallel size"):
        checked_by_vllm(role, MODELS / LLAMA)
