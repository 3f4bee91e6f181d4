"""Look at every model a job names before anything starts: is it there, and does the recipe fit it?

Only config.json and the tokenizer's settings are read, on the driver: of the Hub a few kilobytes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from avr.config import ConfigError, RoleConfig, Stage1Config, TrainingConfig
from avr.config_evaluation import EvaluateConfig, JudgeKind, RefineConfig
from avr.config_stage2 import AnswerConfig, Stage2Config, Start
from avr.config_table import TableConfig
from avr.engines.model_config import (
    HubUnreachableError,
    ModelConfigError,
    folder_of,
    has_chat_template,
    read_config,
)
from avr.engines.shape import check_classifier, check_engine, check_lengths
from avr.training.attention import attention_for

Check = Callable[[str, Mapping[str, Any]], None]
Sampling = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Use:
    """A model that a job loads, and what it asks of it: `check` is given its name and config.json.

    `name` is the setting that names the model, `job` what stands before it in a replication.
    """

    name: str
    model: str
    check: Check
    job: str = ""


def check_models(
    uses: Iterable[Use],
    made: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Raise ConfigError for the first use of a model that cannot be, in one line.

    `made` maps models that steps still have to make to the ones that they start from: training
    changes no shape. What nobody could look at is said in a line, and the job goes on.
    """
    unseen: dict[str, list[str]] = {}
    for use in uses:
        origin = (made or {}).get(use.model, use.model)
        folder = folder_of(origin)
        if folder is not None and not (folder / "config.json").exists():
            unseen.setdefault("not there yet", []).append(origin)
            continue
        named = origin if origin == use.model else f"{use.model}, trained from {origin},"
        try:
            config = read_config(origin)
            use.check(named, config)
            if not has_chat_template(origin):
                raise ModelConfigError(f"the tokenizer of {origin} has no chat template")
        except HubUnreachableError as error:
            unseen.setdefault(error.why, []).append(origin)
        except ModelConfigError as error:
            raise ConfigError(f"{use.job}{use.name}: {error}") from error
        except ConfigError as error:
            raise ConfigError(f"{use.job}{error}") from error
    for why, models in unseen.items():
        names = list(dict.fromkeys(models))
        them = "it" if len(names) == 1 else "them"
        say(f"could not look at {', '.join(names)} ({why}); the recipe is not held against {them}")


def uses_of(config: Any) -> list[Use]:
    """The models of a job's configuration, whichever job it is."""
    if isinstance(config, Stage1Config):
        return _of_stage1(config)
    if isinstance(config, Stage2Config):
        return _of_stage2(config)
    if isinstance(config, TableConfig):
        return _of_table(config)
    policy = _role("policy", config.policy)
    if isinstance(config, EvaluateConfig):
        judge = config.judge
        judged = config.baseline is not None and judge.kind == JudgeKind.reward_model
        model = judge.reward_model if judged else None
        return [policy, *([_reward_model("judge.reward_model", model)] if model else [])]
    if isinstance(config, RefineConfig):
        model = config.reward_model
        return [policy, *([_reward_model("reward_model", model)] if model else [])]
    assert isinstance(config, AnswerConfig)
    return [policy]


def trained_by(config: Any) -> dict[str, str]:
    """The model folders that a job of either stage leaves, and the model that both start from."""
    if not isinstance(config, Stage1Config | Stage2Config):
        return {}
    start = config.policy.model
    if isinstance(config, Stage2Config) and config.start == Start.policy and config.seed_model:
        start = config.seed_model
    return {f"{config.run_dir.rstrip('/')}/{step}": start for step in ("rsft", "dpo")}


def stand_in(config: object) -> dict[str, str]:
    """Map the model that Stage I has yet to leave to the seed policy, whose shape it will have."""
    if not isinstance(config, Stage2Config) or config.seed_model is None:
        return {}
    folder = folder_of(config.policy.model)
    there = folder is None or (folder / "config.json").exists()
    return {} if there else {config.policy.model: config.seed_model}


def _of_stage1(config: Stage1Config) -> list[Use]:
    return [
        _role("policy", config.policy),
        *([_role("corrector", config.corrector)] if config.corrector else []),
        _reward_model("reward_model", config.reward_model),
        *_trainings("policy.model", config.policy.model, config.rsft, config.dpo),
    ]


def _of_stage2(config: Stage2Config) -> list[Use]:
    whole = {**config.policy.sampling, **config.outputs.sampling}
    policy = _role("policy", config.policy, {"outputs.sampling": whole})
    uses = [policy, _reward_model("reward_model", config.reward_model)]
    start = ("policy.model", config.policy.model)
    if config.seed_model is not None:
        uses.append(replace(policy, name="seed_model", model=config.seed_model))
        if config.start == Start.policy:
            start = ("seed_model", config.seed_model)
    return uses + _trainings(*start, config.rsft, config.dpo)


def _of_table(config: TableConfig) -> list[Use]:
    thinking = {**config.policy.sampling, **config.thinking}
    policy = _role("policy", config.policy, {"thinking": thinking})
    uses = [policy, _reward_model("reward_model", config.reward_model)]
    for name, entrant in config.entrants.items():
        at, models = f"entrants.{name}", entrant.trained[-1:]
        models = models or ([entrant.model] if entrant.model else [])
        uses += [replace(policy, name=f"{at}.model", model=m) for m in models]
    return uses


def _role(role: str, settings: RoleConfig, more: Sampling | None = None) -> Use:
    """A role that generates; `more` is other sampling that it is asked with, by its setting."""
    outputs = {f"{role}.sampling": settings.sampling, **(more or {})}

    def check(model: str, config: Mapping[str, Any]) -> None:
        check_engine(role, settings, model, config, outputs)

    return Use(f"{role}.model", settings.model, check)


def _reward_model(role: str, settings: RoleConfig) -> Use:
    def check(model: str, config: Mapping[str, Any]) -> None:
        check_classifier(f"{role}.model", model, config)
        check_engine(role, settings, model, config, {})

    return Use(f"{role}.model", settings.model, check)


def _trainings(name: str, model: str, rsft: TrainingConfig, dpo: TrainingConfig) -> list[Use]:
    """Both trainings start from the setting's model, or from what the first has made of it."""

    def use(kind: str, training: TrainingConfig) -> Use:
        def check(model: str, config: Mapping[str, Any]) -> None:
            check_lengths(kind, training, model, config)
            attention_for(kind, training, config)

        return Use(name, model, check)

    return [use("rsft", rsft), use("dpo", dpo)]
