"""Plan Stage I: pools and devices of each step, and checks of values."""

import math
from dataclasses import replace

from avr.config.checks import check_values
from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.roles import FirstAnswer, Placement, RoleConfig
from avr.config.stage1 import Stage1Config
from avr.plan.checks import check_replicas, check_rounds
from avr.plan.resources import StepPlan, engines, gpus_of, workers


def plan_stage1(config: Stage1Config) -> list[StepPlan]:
    """Every step of Stage I that starts engines or workers. Raises ConfigError on nonsense."""
    check(config)
    together = config.growth.placement == Placement.resident
    width = config.tree.num_critiques * config.tree.num_refinements
    refining = config.tree.num_critiques + width
    sampled = config.growth.first_answer == FirstAnswer.sampled
    reward = engines("reward_model", config.reward_model, 1 + width)
    if config.corrector is None:
        first = [engines("policy", config.policy, sampled + refining)]
    else:
        first = [engines("corrector", config.corrector, refining)]
        first = [*([engines("policy", config.policy, 1)] if sampled else []), *first]
    second = engines("policy", second_policy(config), 1 + refining)
    steps = {
        "grow_rsft": StepPlan("grow_rsft", (*first, reward), together, waves=together),
        "rsft": StepPlan("rsft", (workers(config.policy.model, config.rsft),), True, 0.0),
        "grow_dpo": StepPlan(
            "grow_dpo",
            (replace(second, trained=True), reward),
            together,
            waves=together,
        ),
        "dpo": StepPlan(
            "dpo", (workers(config.policy.model, config.dpo, trained=True),), True, 0.0
        ),
    }
    if config.evaluation is not None:
        rounds = [config.evaluation.rounds.get(name, 0) for name in ("seed", "rsft", "dpo")]
        pools = (
            engines("policy", config.policy, sum(1 + 2 * r for r in rounds)),
            engines("reward_model", config.reward_model, sum(1 + r for r in rounds)),
        )
        steps["evaluate"] = StepPlan("evaluate", pools, together, waves=together)
    return [step for name, step in steps.items() if name in config.steps]


def prompts_stage1(config: Stage1Config) -> dict[str, tuple[str, PromptsConfig]]:
    """For each step, the step that reads the prompts it depends on, and which."""
    sets = {
        "grow_rsft": ("grow_rsft", config.prompts.rsft),
        "rsft": ("grow_rsft", config.prompts.rsft),
        "grow_dpo": ("grow_dpo", config.prompts.dpo),
        "dpo": ("grow_dpo", config.prompts.dpo),
    }
    if config.evaluation is not None:
        sets["evaluate"] = ("evaluate", config.evaluation.prompts)
    return {step: read for step, read in sets.items() if step in config.steps}


def second_policy(config: Stage1Config) -> RoleConfig:
    """The policy's settings for the second growth, where it is its own corrector.

    The GPUs that the corrector held in the first growth go to more replicas of the policy.
    """
    policy, corrector = config.policy, config.corrector
    if corrector is None or not policy.use_gpu or not corrector.use_gpu:
        return policy
    freed = corrector.max_replicas * gpus_of(corrector) / gpus_of(policy)
    return replace(policy, max_replicas=policy.max_replicas + math.floor(freed + 1e-6))


def check(config: Stage1Config) -> None:
    """Raise ConfigError for values that no type can exclude."""
    check_values(config)
    roles = {"policy": config.policy, "reward_model": config.reward_model}
    roles |= {"corrector": config.corrector} if config.corrector else {}
    check_replicas(roles)
    sets = {"grow_rsft": ("prompts.rsft", config.prompts.rsft)}
    sets |= {"grow_dpo": ("prompts.dpo", config.prompts.dpo)}
    if config.evaluation:
        sets |= {"evaluate": ("evaluation.prompts", config.evaluation.prompts)}
    for step, (name, prompts) in sets.items():
        if step in config.steps and not prompts.path:
            raise ConfigError(f"{name}.path is not set, and step {step} needs it")
    if config.evaluation:
        check_rounds(config.evaluation.rounds, ("seed", "rsft", "dpo"))
