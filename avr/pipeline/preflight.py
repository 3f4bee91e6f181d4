"""Everything about a Stage I configuration that can be known to be wrong before anything starts."""

import math
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict

import pyarrow as pa

from avr.config import STEPS, ConfigError, FirstAnswer, PromptsConfig, RulesConfig, Stage1Config
from avr.core.pairs import KINDS
from avr.core.prompts import Templates
from avr.core.selection import switched_on
from avr.engines.folders import check_model
from avr.engines.model_config import HubUnreachableError
from avr.engines.settings import check_role
from avr.evaluation.judged import load_oracle
from avr.pipeline.model_checks import check_models, uses_of
from avr.pipeline.prompt_files import on_hub
from avr.pipeline.prompts import check_rows
from avr.storage import files_at, is_remote, location, reached
from avr.training.settings import check_training


def preflight(config: Stage1Config) -> None:
    """All that can be known to be wrong before anything is started."""
    unknown = [step for step in config.steps if step not in STEPS]
    if unknown:
        raise ConfigError(f"unknown step {unknown[0]!r}; there are: {', '.join(STEPS)}")
    strange = [kind for kind in config.pairs.kinds if kind not in KINDS]
    if strange:
        raise ConfigError(f"unknown kind of pair {strange[0]!r}; there are: {', '.join(KINDS)}")
    try:
        Templates(**asdict(config.templates))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    check_rules("selection", "rsft", config.selection)
    check_rules("pairs", "pairs", config.pairs)
    if config.growth.first_answer == FirstAnswer.input and not config.prompts.rsft.answer_field:
        raise ConfigError(
            "growth.first_answer is 'input', but prompts.rsft.answer_field is not set"
        )
    if not config.steps:
        raise ConfigError(f"steps is empty; there are: {', '.join(STEPS)}")
    check_run_dir(config.run_dir)
    _check_paths(config)
    if config.evaluation is not None:
        load_oracle(config.evaluation.oracle)
    check_role("policy", config.policy)
    check_role("reward_model", config.reward_model, scores=True)
    if config.corrector is not None:
        check_role("corrector", config.corrector)
    check_training("rsft", config.rsft)
    check_training("dpo", config.dpo)
    check_models(uses_of(config))


def check_run_dir(run_dir: str) -> None:
    """On a cluster a relative path would mean another place on every node."""
    if not run_dir.strip():
        raise ConfigError("run_dir is empty")
    folder = location(run_dir)
    if is_remote(folder) and any(sign in run_dir for sign in "*?[]"):
        raise ConfigError(f"run_dir is {run_dir!r}: on an object store it must not hold *?[]")
    if "RAY_ADDRESS" in os.environ and not (is_remote(folder) or folder.is_absolute()):
        raise ConfigError(
            f"run_dir is {run_dir!r}: on a cluster it must be an absolute path on "
            "storage that all nodes share, or on an object store"
        )


def check_rules(key: str, rows: str, rules: RulesConfig) -> None:
    """Raise ConfigError naming the key for a profile, or a rule, that these rows do not have."""
    try:
        switched_on(rows, rules.profile, rules.switches)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error


def check_prompts(sets: Mapping[str, PromptsConfig]) -> None:
    """A mistyped path or field should be found now, not by the step that has begun."""
    for step, prompts in sets.items():
        path = prompts.path or ""
        if not path:
            raise ConfigError(f"the prompts of step {step} have no path")
        if not on_hub(prompts):
            with reached(f"the prompts of step {step}", location(path)):
                files = files_at(path)
            if not files:
                raise ConfigError(f"no prompts at {path} (for step {step})")
        check_set(f"the prompts of step {step}", prompts)


def check_set(name: str, prompts: PromptsConfig) -> None:
    """Raise ConfigError, beginning with `name`, for a set whose first rows hold no prompts.

    A hub data set that nobody could look at is said in a line, and the job goes on.
    """
    hub = on_hub(prompts)
    try:
        with nullcontext() if hub else reached(name, location(prompts.path or "")):
            check_rows(prompts)
    except HubUnreachableError as error:
        print(f"could not look at {prompts.path} ({error.why}); {name} are not checked")
    except (ConfigError, OSError, pa.ArrowException) as error:
        raise ConfigError(f"{name}: {error}") from error


def _check_other_rows(first: PromptsConfig, second: PromptsConfig) -> None:
    """Rows that the first growth has would all be set aside in the second, hours later."""

    def end(prompts: PromptsConfig) -> float:
        return math.inf if prompts.limit is None else prompts.skip + prompts.limit

    same = all(getattr(first, f) == getattr(second, f) for f in ("path", "split", "subset"))
    if same and first.skip <= second.skip and end(second) <= end(first):
        raise ConfigError(
            f"prompts.dpo asks for rows of {second.path} that prompts.rsft has: the two growths"
            " need different prompts (prompts.dpo.skip leaves out the first so many)"
        )


def _check_paths(config: Stage1Config) -> None:
    sets = {"grow_rsft": config.prompts.rsft, "grow_dpo": config.prompts.dpo}
    if config.evaluation is not None:
        sets["evaluate"] = config.evaluation.prompts
    check_prompts({step: prompts for step, prompts in sets.items() if step in config.steps})
    if {"grow_rsft", "grow_dpo"} <= set(config.steps):
        _check_other_rows(config.prompts.rsft, config.prompts.dpo)
    check_model("policy.model", config.policy.model)
    if config.corrector is not None:
        check_model("corrector.model", config.corrector.model)
    check_model("reward_model.model", config.reward_model.model, scores=True)
