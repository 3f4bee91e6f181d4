"""Say what every engine and every training rank of a plan needs of its GPU; refuse what cannot fit.

Parts that run on CPUs are left out. A model whose config.json cannot be read is named with the
reason.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import yaml

from avr.config.errors import ConfigError
from avr.config.roles import RoleConfig, is_reward_model
from avr.config.training import TrainingConfig
from avr.engines.model_config import ModelConfigError, read_config
from avr.memory.adapter import AdapterError
from avr.memory.dry_run import model_of, saved_by, trained_by
from avr.memory.engine import EngineNeed, engine_helps, engine_need
from avr.memory.model import GIB, Model, Saved, UnknownMemoryError
from avr.memory.training import RankNeed, Training, alternatives, rank_need
from avr.plan.fit import NodeType
from avr.plan.resources import Pool, StepPlan
from avr.storage import location, read_bytes
from avr.training.memory import Layout, rank_settings
from avr.training.methods.method import Method

Read = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """Hold the bytes that one engine, or rank, of a pool needs of each of its GPUs.

    `allowed` is what it may take and `gpu` what there is, None where nobody knows. `surely` leaves
    out what is estimated. `helps` is a setting that would make it fit, "" where none was looked for
    or found. `unknown` says why there are no numbers.
    """

    step: str
    pool: str
    least: int = 0
    surely: int = 0
    allowed: int | None = None
    gpu: int | None = None
    parts: str = ""
    helps: str = ""
    unknown: str = ""

    @property
    def problem(self) -> str | None:
        """Return one line where it cannot fit, whatever the estimates; else None."""
        if self.allowed is None or self.gpu is None or self.surely <= self.allowed:
            return None
        helps = self.helps or "more GPUs, or such with more memory"
        return (
            f"{self.step}: {self.pool} needs {self.amount} GiB of a GPU ({self.parts}); what would"
            f" help: {helps}"
        )

    @property
    def amount(self) -> str:
        """Return what it needs of what it may take: "52 of 80" GiB."""
        return f"{self.least / GIB:.0f}" + (f" of {_gib(self.allowed)}" if self.allowed else "")

    @property
    def tight(self) -> bool:
        """Say whether it fits only if the estimates are too high."""
        return self.allowed is not None and self.surely <= self.allowed < self.least


@dataclass
class _Models:
    """Keep the answers about models; each is asked once, however many pools it has."""

    read: Read
    _configs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _models: dict[tuple[str, bool], Model] = field(default_factory=dict)

    def config(self, model: str) -> Mapping[str, Any]:
        """Return a model's config.json. Raises ModelConfigError."""
        if model not in self._configs:
            try:
                self._configs[model] = self.read(model)
            except ModelConfigError:
                source = _trained_from(model)
                if source is None:
                    raise
                self._configs[model] = self.read(source)
        return self._configs[model]

    def model(self, name: str, scores: bool) -> Model:
        """Return a model's numbers. Raises ModelConfigError and UnknownMemoryError."""
        if (name, scores) not in self._models:
            self._models[name, scores] = model_of(self.config(name), scores)
        return self._models[name, scores]


def _trained_from(model: str) -> str | None:
    """Return the model that a job trains into RUN_DIR/STEP, a folder that is not there yet."""
    file = location(model).parent / "config.yaml"
    if "/" not in model or not file.exists():
        return None
    policy = (yaml.safe_load(read_bytes(file)) or {}).get("policy") or {}
    name = policy.get("model")
    return name if isinstance(name, str) and name != model else None


def memory_of(
    plan: Iterable[StepPlan],
    gpu_gib: float | None,
    nodes: Sequence[NodeType] = (),
    read: Read = read_config,
) -> list[PoolMemory]:
    """Work out the memory of every pool with GPUs; pools that are alike are named once.

    A GPU has the memory of the smallest of those `nodes` that could hold the pool, where all of
    them are known; else `gpu_gib`; else the memory of this machine's smallest GPU. `read` takes a
    model and returns its config.json.
    """
    models = _Models(read)
    here = _Here()
    found: dict[PoolMemory, list[str]] = {}
    for step in plan:
        for pool in step.pools:
            if pool.settings is None or not pool.gpus:
                continue
            gib = _of_nodes(pool, nodes) or gpu_gib or here.gpu_gib
            one = _of_pool(step.step, pool, models, None if gib is None else int(gib * GIB))
            found.setdefault(replace(one, step=""), []).append(step.step)
    return [replace(one, step=", ".join(steps)) for one, steps in found.items()]


def check_memory(plan: Iterable[StepPlan], gpu_gib: float | None) -> None:
    """Raise ConfigError for the first engine or rank that cannot fit into its GPU.

    A GPU has `gpu_gib`; on a cluster of this machine alone it has no more than this machine's GPUs.
    """
    here = None if "RAY_ADDRESS" in os.environ else _Here().gpu_gib
    known = [gib for gib in (gpu_gib, here) if gib is not None]
    if not known:
        return
    of_here = f"; this machine's GPUs have {here:.0f} GiB" if here is not None else ""
    for one in memory_of(plan, min(known)):
        if one.problem is not None:
            raise ConfigError(one.problem + of_here)


class _Here:
    """Describe the machine that the job is started on."""

    @cached_property
    def gpu_gib(self) -> float | None:
        """Return the memory of its smallest GPU, by NVIDIA's tool: torch would claim some of it."""
        tool = shutil.which("nvidia-smi")
        if tool is None:
            return None
        asked = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        try:
            said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
            return min(float(line) / 1024 for line in said.stdout.splitlines() if line.strip())
        except (OSError, ValueError, subprocess.SubprocessError):
            return None


def _of_nodes(pool: Pool, nodes: Sequence[NodeType]) -> float | None:
    """Return the memory of the smallest GPU that a pool may get; None where one is not known.

    Ray gives a pool any GPUs there are, so it has to fit into the smallest.
    """
    able = [n for n in nodes if n.count and n.gpus >= max(pool.gpus, 1) and n.cpus >= pool.cpus]
    sizes = [node.gpu_gib for node in able]
    return None if not sizes or None in sizes else min(size for size in sizes if size is not None)


def _of_pool(step: str, pool: Pool, models: _Models, gpu: int | None) -> PoolMemory:
    nothing = PoolMemory(step, pool.name, gpu=gpu)
    try:
        if isinstance(pool.settings, RoleConfig):
            return _of_engine(nothing, pool, pool.settings, models)
        assert pool.settings is not None and pool.method is not None
        return _of_rank(nothing, step, pool, pool.method, pool.settings, models)
    except (ConfigError, UnknownMemoryError, AdapterError) as error:
        return replace(nothing, unknown=str(error))


def _of_engine(nothing: PoolMemory, pool: Pool, role: RoleConfig, models: _Models) -> PoolMemory:
    scores = is_reward_model(pool.name)
    model = models.model(pool.model, scores)
    need = engine_need(model, role.engine, nothing.gpu, scores)
    short = need.budget is not None and need.least > need.budget and nothing.gpu is not None
    helps = engine_helps(model, role.engine, nothing.gpu or 0, scores) if short else None
    return replace(
        nothing,
        least=need.least,
        surely=need.surely,
        allowed=need.budget,
        parts=_engine_parts(need),
        helps=f"{pool.name}.{helps}" if helps else "",
    )


def _engine_parts(need: EngineNeed) -> str:
    sequence = need.per_token * need.length
    words = (
        f"weights {_gib(need.weights)}, start about {_gib(need.start)}, keys and values of"
        f" {need.length:,} tokens {_gib(sequence)}"
    )
    if need.tokens is None or need.sequences is None or need.tokens < need.length:
        return words
    return f"{words}: room for {need.tokens:,}, or {need.sequences:.0f} sequences of these"


def _of_rank(
    nothing: PoolMemory,
    step: str,
    pool: Pool,
    method: Method,
    config: TrainingConfig,
    models: _Models,
) -> PoolMemory:
    training, layout = rank_settings(step, method, config)
    content = models.config(pool.model)
    model = models.model(pool.model, False)
    if layout.lora is not None:
        training = replace(training, adapter=trained_by(content, layout.lora))
    need = rank_need(model, training, _saved(content, training, layout))
    helps = ""
    if nothing.gpu is not None and need.least > nothing.gpu:
        helps = _rank_helps(step, method, content, model, training, layout, nothing.gpu)
    return replace(
        nothing,
        least=need.least,
        surely=need.surely,
        allowed=nothing.gpu,
        parts=_rank_parts(need, training),
        helps=helps,
    )


def _saved(content: Mapping[str, Any], training: Training, layout: Layout) -> Saved:
    rows, length = training.sequences, training.length
    rows, length = (1, rows * length) if training.packed else (rows, length)
    return saved_by(
        content,
        rows,
        length,
        bits=layout.bits,
        autocast=layout.autocast,
        attention=layout.attention,
        lora=layout.lora,
        wide=layout.wide,
    )


def _rank_helps(
    step: str,
    method: Method,
    content: Mapping[str, Any],
    model: Model,
    training: Training,
    layout: Layout,
    gpu: int,
) -> str:
    """Return the first setting with which the rank would fit, or ""."""
    for words, other in alternatives(training, pairs=method.paired):
        need = rank_need(model, other, _saved(content, other, layout))
        if need.least <= gpu:
            return f"{step}.{words} ({_gib(need.least)} GiB)"
    return ""


def _rank_parts(need: RankNeed, training: Training) -> str:
    kind = f"ZeRO-{training.stage} of {training.num_ranks}" if training.deepspeed else "no ZeRO"
    if training.adapter is not None:
        kind += f", of an adapter of {training.adapter / 1e6:.3g} million parameters"
    again = "layers computed again" if training.checkpointing else "none computed again"
    tokens = training.sequences * training.length
    return (
        f"states {_gib(need.states)} ({kind}), activations {_gib(need.activations)} ({tokens:,}"
        f" tokens, {again}), gathered weights, buckets and logits {_gib(need.passing)}, about"
        f" {_gib(need.overhead)} beside"
    )


def _gib(size: int) -> str:
    gib = size / GIB
    return f"{gib:.1f}" if gib < 10 else f"{gib:.0f}"
