"""What the table needs, and what can be known to be wrong with its configuration."""

from collections import Counter
from dataclasses import asdict, replace

from avr.config.answers import Mode
from avr.config.checks import check_values
from avr.config.errors import ConfigError
from avr.config.table import TABLE_STEPS, EntrantConfig, TableConfig
from avr.config.texts import template_of
from avr.core.prompts import Templates
from avr.engines.folders import check_model
from avr.engines.settings import check_role
from avr.evaluation.judged import load_oracle
from avr.pipeline.model_checks import check_models, uses_of
from avr.plan.checks import check_prompts, check_replicas, check_run_dir
from avr.plan.resources import StepPlan, engines
from avr.reports.final_answers import in_order, row_names
from avr.storage import location

_RESERVED = ("logs", "parity", "journal")  # that lie beside the entrants' folders


def plan_table(config: TableConfig) -> list[StepPlan]:
    """The one step. Raises ConfigError on nonsense; starts nothing."""
    if list(config.steps) != list(TABLE_STEPS):
        raise ConfigError(f"steps is {config.steps}; there is one step: answer")
    check_values(config)
    for name, entrant in config.entrants.items():
        check_values(entrant, f"entrants.{name}.")
        _check_entrant(config, name, entrant)
    if config.baseline not in config.entrants:
        names = ", ".join(config.entrants)
        raise ConfigError(f"baseline is {config.baseline!r}; there are: {names}")
    in_order(config)
    names = Counter(row_names(config))
    twice = [name for name, number in names.items() if number > 1]
    if twice:
        raise ConfigError(f"entrants: two of them fill the row {twice[0]!r}")
    roles = {"policy": config.policy, "reward_model": config.reward_model}
    check_replicas(roles)
    try:
        Templates(**asdict(config.templates))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    template_of(config.trajectories)
    load_oracle(config.oracle)
    check_run_dir(config.run_dir)
    check_prompts({"answer": config.prompts})
    check_model("policy.model", config.policy.model)
    check_model("reward_model.model", config.reward_model.model, scores=True)
    check_role("policy", config.policy)
    thinking = {**config.policy.sampling, **config.thinking}
    check_role("policy", replace(config.policy, sampling=thinking), sampling_at="thinking")
    check_role("reward_model", config.reward_model, scores=True)
    check_models(uses_of(config))
    texts = sum(e.best_of + 2 * e.rounds for e in config.entrants.values())
    rewards = sum(e.best_of + e.rounds for e in config.entrants.values())
    pools = (
        engines("policy", config.policy, texts),
        engines("reward_model", config.reward_model, rewards),
    )
    return [StepPlan("answer", pools, True, config.queries.cpus_per_task)]


def model_of(config: TableConfig, name: str) -> str:
    """The model folder, or Hub id, of an entrant."""
    entrant = config.entrants[name]
    return entrant.trained[-1] if entrant.trained else entrant.model or config.policy.model


def _check_entrant(config: TableConfig, name: str, entrant: EntrantConfig) -> None:
    at = f"entrants.{name}"
    if not name or any(sign in name for sign in "/<|") or name in _RESERVED:
        raise ConfigError(
            f"{at}: the name is to be that of a folder and of a row, without <, | or /"
        )
    if entrant.trained and entrant.model:
        raise ConfigError(f"{at}: of model and trained only one can say which model it is")
    if bool(entrant.rounds) != (entrant.mode == Mode.refine):
        raise ConfigError(
            f"{at}: mode is {entrant.mode.value} and rounds {entrant.rounds}; rounds are of refine"
        )
    if entrant.best_of > 1 and entrant.mode != Mode.plain:
        raise ConfigError(f"{at}: best_of goes with mode plain, not {entrant.mode.value}")
    if entrant.tokens_of is not None and entrant.best_of == 1:
        raise ConfigError(f"{at}: tokens_of chooses among samples, and best_of is 1")
    for model in entrant.trained:
        check_model(f"{at}.trained", model)
        if not (location(model) / "training.json").exists():
            raise ConfigError(f"{at}.trained: no training of ours has left {model}")
    check_model(f"{at}.model", model_of(config, name))
