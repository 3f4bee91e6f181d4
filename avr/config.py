"""Every knob of every job, its type and its one default; files in conf/ hold only what differs.

`load(Stage1Config, "conf/miniature/stage1.yaml", ["tree.num_critiques=3"])` merges defaults, file
and overrides. An unknown key or a wrong type is a ConfigError that names the file and suggests the
key that was meant. Settings of vLLM, TRL and DeepSpeed pass through under their own names.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avr.core.prompts import CRITIQUE_REQUEST, REFINE_REQUEST


class ConfigError(ValueError):
    """A configuration that cannot be used; the message says where and what would be right."""


class Placement(Enum):
    """`resident`: all pools live, trees stream. `waves`: one model at a time on all devices."""

    resident = "resident"
    waves = "waves"


class FirstAnswer(Enum):
    """Where y0 comes from: sampled from the policy, or the answer the input row brought along."""

    sampled = "sampled"
    input = "input"


@dataclass
class PromptsConfig:
    """A prompt set: a Parquet, JSONL or JSON file or folder, or `hf://DATASET` (`split`, `subset`).

    `prompt_field` holds a text or a list of chat messages; `answer_field` (optional) a text or
    messages whose last assistant turn is taken. `limit` takes the first so many rows.
    """

    path: str | None = None
    prompt_field: str = "prompt"
    answer_field: str | None = None
    split: str = "train"
    subset: str | None = None
    skip: int = 0
    limit: int | None = None


@dataclass
class TemplatesConfig:
    """The words around the models' texts, everywhere (see `avr.core.prompts`)."""

    critique_request: str = CRITIQUE_REQUEST
    refine_request: str = REFINE_REQUEST
    system: str = ""


@dataclass
class RoleConfig:
    """One model and the pool of engines that serves it.

    `engine` holds vLLM's AsyncEngineArgs and `sampling` its SamplingParams, under their own names.
    One replica takes `num_cpus` CPUs and, where `use_gpu`, `tensor_parallel_size` (of `engine`)
    GPUs of one node. `max_rows_per_replica` trees are in flight in one engine at a time.
    """

    model: str = MISSING
    min_replicas: int = 1
    max_replicas: int = 1
    num_cpus: float = 1.0
    use_gpu: bool = True
    max_rows_per_replica: int = 128
    trust_remote_code: bool = False
    engine: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class TreeConfig:
    """Shape of a level and the bound on retries of malformed samples (released: 2 x 2, 5 tries)."""

    num_critiques: int = 2
    num_refinements: int = 2
    max_tries: int = 5


@dataclass
class GrowthConfig:
    """How trees are grown: placement, where y0 comes from, and what is committed at a time.

    `rows_per_block` trees travel and are committed together: what a kill can cost.
    `max_engine_deaths` per role end the job, with the cause. `no_progress_timeout_s` ends a job in
    which not one tree advanced for so long.
    """

    placement: Placement = Placement.resident
    first_answer: FirstAnswer = FirstAnswer.sampled
    rows_per_block: int = 8
    max_engine_deaths: int = 5
    no_progress_timeout_s: float = 1800.0
    parity_tolerance: float = 0.05


@dataclass
class RulesConfig:
    """A profile of named rules (as_released, as_paper, recommended) and single switches over it."""

    profile: str = "recommended"
    switches: dict[str, bool] = field(default_factory=dict)


@dataclass
class PairsConfig(RulesConfig):
    """Rules, and which kinds of pairs are made."""

    kinds: list[str] = field(default_factory=lambda: ["generation", "critique", "refinement"])


def _zero3() -> dict[str, Any]:
    return {
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "bf16": {"enabled": "auto"},
    }


@dataclass
class TrainingConfig:
    """One training job on Ray Train: `num_workers` ranks under DeepSpeed.

    `trl` holds SFTConfig or DPOConfig fields and `deepspeed` a DeepSpeed configuration, under
    their own names. `save_dtype` (such as bfloat16) casts the saved weights; unset, they stay as
    trained. `max_failures` worker-group restarts from the last checkpoint, preemptions
    (-1: any number) not counted. `trackers`: tensorboard, wandb, mlflow.
    """

    num_workers: int = 8
    use_gpu: bool = True
    resources_per_worker: dict[str, float] = field(default_factory=dict)
    max_failures: int = 2
    max_preemption_failures: int = -1
    trl: dict[str, Any] = field(default_factory=dict)
    deepspeed: dict[str, Any] = field(default_factory=_zero3)
    save_dtype: str | None = None
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])


@dataclass
class EvaluationConfig:
    """Held-out prompts answered by the seed policy and both trained models, refined r times.

    `oracle` names a function `(prompt, answer) -> quality in [0, 1]` as "module:function", for
    worlds where the truth is known. `rounds` is r of the trained models, by step.
    """

    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    rounds: dict[str, int] = field(default_factory=lambda: {"seed": 1, "rsft": 1, "dpo": 2})
    oracle: str | None = None


@dataclass
class Stage1Prompts:
    """Two prompt sets: `rsft` grows the trees of the first training, `dpo` those of the second."""

    rsft: PromptsConfig = field(default_factory=PromptsConfig)
    dpo: PromptsConfig = field(default_factory=PromptsConfig)


STEPS = ("grow_rsft", "select", "rsft", "grow_dpo", "pair", "dpo", "evaluate")


@dataclass
class Stage1Config:
    """Stage I: grow -> select -> RSFT -> grow with the RSFT model -> pair -> DPO (-> evaluate).

    Without a `corrector` the policy corrects itself in the same pool, as the RSFT model does in
    the second growth. Without `evaluation` that step is left out.
    """

    run_dir: str = MISSING
    seed: int = 0
    steps: list[str] = field(default_factory=lambda: list(STEPS))
    prompts: Stage1Prompts = field(default_factory=Stage1Prompts)
    templates: TemplatesConfig = field(default_factory=TemplatesConfig)
    policy: RoleConfig = field(default_factory=RoleConfig)
    corrector: RoleConfig | None = None
    reward_model: RoleConfig = field(default_factory=RoleConfig)
    tree: TreeConfig = field(default_factory=TreeConfig)
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    selection: RulesConfig = field(default_factory=RulesConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    rsft: TrainingConfig = field(default_factory=TrainingConfig)
    dpo: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig | None = None
    ray: dict[str, Any] = field(default_factory=dict)


C = TypeVar("C")


def load(schema: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Defaults, then the file, then `key=value` overrides. Raises ConfigError."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no such configuration file: {path}")
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"override {override!r} is not of the form key=value")
    config = OmegaConf.structured(schema)
    layers: list[tuple[str, Callable[[], Any]]] = [(str(path), partial(OmegaConf.load, path))]
    layers += [(f"override {o!r}", partial(OmegaConf.from_dotlist, [o])) for o in overrides]
    for origin, read in layers:
        try:
            config = OmegaConf.merge(config, read())
        except (OmegaConfBaseException, ValueError) as error:
            raise ConfigError(f"{origin}: {_explain(schema, error)}") from error
        except Exception as error:  # a YAML syntax error carries line and column in its text
            raise ConfigError(f"{origin}: {error}") from error
    return _built(schema, config, str(path))


def _built(schema: type[C], config: Any, origin: str) -> C:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{origin}: no value for {', '.join(missing)}")
    built = OmegaConf.to_object(config)
    assert isinstance(built, schema)
    return built


def _explain(schema: type, error: Exception) -> str:
    """The error in one line; for an unknown key, the key that was probably meant."""
    full_key = getattr(error, "full_key", None) or ""
    first_line = str(error).splitlines()[0]
    unknown = re.search(r"Key '([^']+)' not in", first_line)
    if not unknown:
        where = f"{full_key}: " if full_key else ""
        return f"{where}{first_line}"
    parent = full_key.rpartition(".")[0]
    known = _keys_at(schema, parent)
    near = difflib.get_close_matches(unknown.group(1), known, n=1, cutoff=0.5)
    anywhere = [k for k in _all_keys(schema) if k.rpartition(".")[2] == unknown.group(1)]
    hint = f"did you mean {'.'.join(filter(None, [parent, near[0]]))!r}?" if near else ""
    if not near and anywhere:
        hint = f"did you mean {anywhere[0]!r}?"
    return f"unknown key {full_key!r}; {hint or 'there are: ' + ', '.join(known)}"


def _keys_at(schema: type, dotted: str) -> list[str]:
    for part in filter(None, dotted.split(".")):
        found = _section(get_type_hints(schema).get(part))
        if found is None:
            return []
        schema = found
    return [f.name for f in fields(schema)]


def _all_keys(schema: type, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, hint in get_type_hints(schema).items():
        keys.append(prefix + name)
        section = _section(hint)
        if section is not None:
            keys += _all_keys(section, f"{prefix}{name}.")
    return keys


def _section(hint: Any) -> type | None:
    """The dataclass behind a type hint, through `X | None`; None for a plain value."""
    options = [hint, *getattr(hint, "__args__", ())]
    return next((o for o in options if isinstance(o, type) and is_dataclass(o)), None)
