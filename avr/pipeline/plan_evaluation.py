"""What evaluation and refining need, and what can be known to be wrong with their configuration."""

import os
from collections.abc import Sequence
from dataclasses import asdict

from avr.config.answers import (
    EVALUATE_STEPS,
    REFINE_STEPS,
    EvaluateConfig,
    Format,
    Mode,
    RefineConfig,
)
from avr.config.checks import check_values
from avr.config.errors import ConfigError
from avr.config.judges import JudgeConfig, JudgeKind
from avr.config.prompts import PromptsConfig
from avr.config.roles import RoleConfig
from avr.config.run import RunConfig
from avr.config.texts import template_of
from avr.core.prompts import Templates
from avr.data.prompt_files import on_hub
from avr.engines.folders import check_model
from avr.engines.settings import check_role
from avr.evaluation.judged import load_oracle
from avr.pipeline.model_checks import check_models, uses_of
from avr.plan.checks import check_prompts, check_replicas, check_run_dir, check_set
from avr.plan.resources import StepPlan, engines
from avr.storage import files_at, location, reached


def plan_refine(config: RefineConfig) -> list[StepPlan]:
    """The one step of refining. Raises ConfigError on nonsense; starts nothing."""
    roles = {"policy": config.policy}
    roles |= {"reward_model": config.reward_model} if config.reward_model else {}
    _check(config, REFINE_STEPS, roles, {"refine": config.answers})
    if not config.answers.answer_field:
        raise ConfigError("answers.answer_field is not set: which field holds the answers?")
    load_oracle(config.oracle)
    width = config.tree.num_critiques * config.tree.num_refinements
    texts = config.rounds * (config.tree.num_critiques + width)
    pools = [engines("policy", config.policy, texts)]
    if config.reward_model is not None:
        pools.append(engines("reward_model", config.reward_model, 1 + config.rounds * width))
    return [StepPlan("refine", tuple(pools), True, config.queries.cpus_per_task)]


def plan_evaluate(config: EvaluateConfig) -> list[StepPlan]:
    """Answering, and judging where engines judge. Raises ConfigError on nonsense."""
    roles, sets = {"policy": config.policy}, {"answer": config.prompts}
    judge = config.judge
    if config.baseline is not None:
        if not config.baseline.answer_field and config.format == Format.alpaca_eval:
            raise ConfigError("baseline.answer_field is not set: which field holds the answers?")
        _check_baseline(config.baseline, config.format)
        _check_judge(judge)
        if judge.kind == JudgeKind.reward_model and judge.reward_model is not None:
            roles |= {"judge.reward_model": judge.reward_model}
    elif "judge" in config.steps and "answer" not in config.steps:
        raise ConfigError("baseline is not set, and step judge needs it")
    if config.rounds and config.mode != Mode.refine:
        raise ConfigError(f"rounds is {config.rounds}, and mode {config.mode.value} has none")
    if not config.rounds and config.mode == Mode.refine:
        raise ConfigError("rounds is 0, and mode refine needs at least 1")
    if "/" in config.name or not config.name:
        raise ConfigError(f"name is {config.name!r}, which is to be the name of a file")
    template_of(config.trajectories)
    _check(config, EVALUATE_STEPS, roles, sets)
    reserve = config.queries.cpus_per_task
    width = config.tree.num_critiques * config.tree.num_refinements
    texts = 1 + config.rounds * (config.tree.num_critiques + width)
    plans = [StepPlan("answer", (engines("policy", config.policy, texts),), True, reserve)]
    if "judge.reward_model" in roles:
        pool = engines("reward_model", roles["judge.reward_model"], 2)
        plans.append(StepPlan("judge", (pool,), True, reserve))
    return [plan for plan in plans if plan.step in config.steps]


def _check_baseline(baseline: PromptsConfig, form: Format) -> None:
    path = baseline.path or ""
    if not path:
        raise ConfigError("baseline.path is not set: which file holds the baseline's answers?")
    there = on_hub(baseline)
    if not there:
        with reached("baseline.path", location(path)):
            there = bool(files_at(path))
    if not there:
        left = "outputs.json" if form == Format.alpaca_eval else "NAME.jsonl"
        raise ConfigError(
            f"baseline.path: no answers at {path}; an evaluation of the baseline leaves them there,"
            f" as RUN_DIR/{left}"
        )
    if form == Format.alpaca_eval:  # Arena-Hard's own records hold no prompt: baseline_of looks
        check_set("baseline", baseline)


def _check_judge(judge: JudgeConfig) -> None:
    if judge.kind == JudgeKind.endpoint and not judge.endpoint.model:
        raise ConfigError("judge.endpoint.model is not set: which model is to judge?")
    if judge.kind == JudgeKind.endpoint:
        judge.endpoint.check_address()
        variable = judge.endpoint.key_variable
        if variable and not os.environ.get(variable):
            where = judge.endpoint.base_url
            raise ConfigError(f"{variable} is not set, and the key for {where} is to be in it")
    if judge.kind == JudgeKind.reward_model and judge.reward_model is None:
        raise ConfigError("judge.reward_model is not set, and judge.kind is reward_model")
    if judge.kind == JudgeKind.oracle and load_oracle(judge.oracle) is None:
        raise ConfigError("judge.oracle is not set, and judge.kind is oracle")


def _check(
    config: RunConfig,
    steps: Sequence[str],
    roles: dict[str, RoleConfig],
    prompts: dict[str, PromptsConfig],
) -> None:
    unknown = [step for step in config.steps if step not in steps]
    if unknown or not config.steps:
        what = f"unknown step {unknown[0]!r}" if unknown else "steps is empty"
        raise ConfigError(f"{what}; there are: {', '.join(steps)}")
    check_values(config)
    check_replicas(roles)
    try:
        Templates(**asdict(config.templates))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    check_run_dir(config.run_dir)
    check_prompts(prompts)
    for role, settings in roles.items():
        scores = role.endswith("reward_model")
        check_model(f"{role}.model", settings.model, scores=scores)
        check_role(role, settings, scores=scores)
    check_models(uses_of(config))
