"""Everything about a Stage I configuration that can be known to be wrong before anything starts."""

import os
from dataclasses import asdict
from pathlib import Path

from avr.config import STEPS, ConfigError, FirstAnswer, Stage1Config
from avr.core.pairs import KINDS
from avr.core.prompts import Templates
from avr.core.selection import switched_on
from avr.engines.settings import check_role
from avr.pipeline.plan import plan_stage1
from avr.training.settings import check_training


def show_plan(config: Stage1Config) -> None:
    """Print what each step needs; starts nothing. Raises ConfigError like a run would."""
    from avr.pipeline.summary import print_plan  # brings Ray along, which a check does not need

    plan = plan_stage1(config)
    preflight(config)
    print_plan(plan)


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
        switched_on("rsft", config.selection.profile, config.selection.switches)
        switched_on("pairs", config.pairs.profile, config.pairs.switches)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if config.growth.first_answer == FirstAnswer.input and not config.prompts.rsft.answer_field:
        raise ConfigError(
            "growth.first_answer is 'input', but prompts.rsft.answer_field is not set"
        )
    if "RAY_ADDRESS" in os.environ and not Path(config.run_dir).is_absolute():
        raise ConfigError(
            f"run_dir is {config.run_dir!r}: on a cluster it must be an absolute path on "
            "storage that all nodes share"
        )
    _check_paths(config)
    check_role("policy", config.policy)
    check_role("reward_model", config.reward_model, scores=True)
    if config.corrector is not None:
        check_role("corrector", config.corrector)
    check_training("rsft", config.rsft)
    check_training("dpo", config.dpo)


def _check_paths(config: Stage1Config) -> None:
    """A mistyped path should be found now, not by a step that has begun."""
    sets = {"grow_rsft": config.prompts.rsft, "grow_dpo": config.prompts.dpo}
    if config.evaluation is not None:
        sets["evaluate"] = config.evaluation.prompts
    for step, prompts in sets.items():
        path = prompts.path or ""
        if step in config.steps and not path.startswith("hf://") and not Path(path).exists():
            raise ConfigError(f"no prompts at {path} (for step {step})")
    roles = (config.policy, config.corrector, config.reward_model)
    for role in filter(None, roles):
        local = role.model.startswith((".", "/", "~"))
        if local and not (Path(role.model) / "config.json").exists():
            raise ConfigError(f"no model folder at {role.model}")
