"""Everything about a Stage I configuration that can be known to be wrong before anything starts."""

import math
from dataclasses import asdict

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.roles import FirstAnswer
from avr.config.stage1 import STEPS, Stage1Config
from avr.core.prompts import Templates
from avr.engines.folders import check_model
from avr.engines.settings import check_role
from avr.evaluation.judged import load_oracle
from avr.pipeline.model_checks import check_models, uses_of
from avr.plan.checks import check_prompts, check_rules, check_run_dir
from avr.rows.row import KINDS
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
