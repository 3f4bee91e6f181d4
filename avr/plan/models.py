"""Look at every model that a job names before anything starts: is it there, and does it fit?

Only config.json and the tokenizer's settings are read, on the driver: of the Hub a few kilobytes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from avr.config.errors import ConfigError
from avr.config.roles import RoleConfig
from avr.config.training import TrainingConfig
from avr.engines.model_config import (
    HubUnreachableError,
    ModelConfigError,
    folder_of,
    has_chat_template,
    read_config,
)
from avr.engines.shape import check_classifier, check_engine, check_generator, check_lengths
from avr.training.attention import attention_for
from avr.training.settings import check_adapter

Check = Callable[[str, Mapping[str, Any]], None]
Sampling = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Use:
    """Name a model that a job loads, and its check, which is given the name and config.json.

    `name` is the setting that names the model; `job` stands before it in a replication.
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
    """Raise ConfigError, in one line, for the first model that cannot be used as asked.

    `made` maps models that steps still have to make to the ones that they start from: training
    changes no shape. Where nobody could look at a model, a line says so, and the job goes on.
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
        said = f"could not read {', '.join(names)} ({why})"
        say(f"{said}; going on without checking settings against {them}")


def generating(role: str, settings: RoleConfig, more: Sampling | None = None) -> Use:
    """Describe the use of a model that generates.

    `more` is other sampling that it is asked with, by its setting.
    """
    outputs = {f"{role}.sampling": settings.sampling, **(more or {})}

    def check(model: str, config: Mapping[str, Any]) -> None:
        check_generator(f"{role}.model", model, config)
        check_engine(role, settings, model, config, outputs)

    return Use(f"{role}.model", settings.model, check)


def judging(role: str, settings: RoleConfig) -> Use:
    """Describe the use of a reward model."""

    def check(model: str, config: Mapping[str, Any]) -> None:
        check_classifier(f"{role}.model", model, config)
        check_engine(role, settings, model, config, {})

    return Use(f"{role}.model", settings.model, check)


def training(name: str, at: str, model: str, config: TrainingConfig) -> Use:
    """Describe the use of the model that training `name` starts from; setting `at` names it."""

    def check(model: str, shape: Mapping[str, Any]) -> None:
        check_lengths(name, config, model, shape)
        attention_for(name, config, shape)
        check_adapter(name, config.lora, shape)

    return Use(at, model, check)
