"""What Stage II needs, and what can be known to be wrong with its configuration. Starts nothing."""

from dataclasses import asdict, replace

from avr.config.answers import AnswerConfig
from avr.config.checks import check_values
from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.roles import FirstAnswer
from avr.config.stage2 import STAGE2_STEPS, Stage2Config, Start
from avr.config.texts import template_of
from avr.core.own_judge import OwnJudge
from avr.core.prompts import Templates
from avr.engines.folders import check_model
from avr.engines.settings import check_role
from avr.evaluation.judged import load_oracle
from avr.pipeline.model_checks import check_models, stand_in, uses_of
from avr.plan.checks import check_prompts, check_replicas, check_rounds, check_rules, check_run_dir
from avr.plan.resources import StepPlan, engines, workers
from avr.storage import location
from avr.training.settings import check_training

LOOP_STEPS = ("search", "unroll", "rsft")


def plan_stage2(config: Stage2Config) -> list[StepPlan]:
    """Every step of Stage II that starts engines or workers. Raises ConfigError on nonsense.

    Texts per query are the most there can be: a search may end at any turn.
    """
    _check(config)
    width = config.tree.num_critiques * config.tree.num_refinements
    refining = config.tree.num_critiques + width
    reserve = config.queries.cpus_per_task
    policy, reward, start = config.policy, config.reward_model, start_model(config)
    sampled = config.first_answer == FirstAnswer.sampled
    outputs, own = config.outputs.num_outputs, own_judge_of(config)
    judged = (outputs + 1) * own.num_judgements if own else 0  # of one output they are judged too
    asked = config.evaluation.rounds if config.evaluation else {}
    plain = template_of(config.trajectories).plain
    rounds = [asked.get(name, 0) for name in (("seed",) if plain else ("seed", "stage1"))]
    whole = 1 if plain else 2  # outputs: one of each model that this run trains
    steps = {
        "search": (sampled + config.max_depth * refining, 1 + config.max_depth * width),
        "sample": (
            outputs + judged,
            0 if own else outputs + bool(config.prompts.sample.answer_field),
        ),
        "evaluate": (sum(1 + 2 * r for r in rounds) + whole, sum(1 + r for r in rounds) + whole),
    }
    served = {
        name: replace(engines("policy", policy, texts), model=start, trained=True)
        if name == "sample" and not plain
        else engines("policy", policy, texts)
        for name, (texts, _) in steps.items()
    }
    plans = {
        name: StepPlan(
            name,
            (
                served[name],
                *([engines("reward_model", reward, rewards)] if rewards else []),
            ),
            True,
            reserve,
            whole=name != "search" and not plain,
        )
        for name, (_, rewards) in steps.items()
    }
    plans["rsft"] = StepPlan("rsft", (workers(start, config.rsft),), True, 0.0)
    plans["dpo"] = StepPlan("dpo", (workers(start, config.dpo, trained=not plain),), True, 0.0)
    wanted = set(config.steps) - ({"evaluate"} if config.evaluation is None else set())
    return [plans[step] for step in STAGE2_STEPS if step in wanted and step in plans]


def start_model(config: Stage2Config) -> str:
    """The model that this run's first training starts from. Raises ConfigError for none.

    Of a baseline that is the policy, whose own outputs it learns from.
    """
    if config.start == Start.stage1:
        return config.policy.model
    if template_of(config.trajectories).plain:
        raise ConfigError(
            "start is 'policy' and trajectories.template 'plain', which has no RSFT: DPO starts"
            " from policy.model, which may be any model; leave start at 'stage1'"
        )
    if config.seed_model is None:
        raise ConfigError("start is 'policy', but seed_model is not set: which is the untrained?")
    return config.seed_model


def _is_seed_asked_for(config: Stage2Config) -> bool:
    return config.evaluation is not None and "evaluate" in config.steps


def possible_steps(config: Stage2Config) -> list[str]:
    """All there are; without a loop to learn, those that need none."""
    plain = template_of(config.trajectories).plain
    return [step for step in STAGE2_STEPS if not (plain and step in LOOP_STEPS)]


def prompts_stage2(config: Stage2Config) -> dict[str, tuple[str, PromptsConfig]]:
    """For each step, the step that reads the prompts it depends on, and which."""
    sets = {
        "search": ("search", config.prompts.search),
        "rsft": ("search", config.prompts.search),
        "sample": ("sample", config.prompts.sample),
        "dpo": ("sample", config.prompts.sample),
    }
    if config.evaluation is not None:
        sets["evaluate"] = ("evaluate", config.evaluation.prompts)
    return {step: read for step, read in sets.items() if step in config.steps}


def preflight(config: Stage2Config, planned: bool = False) -> None:
    """All that can be known to be wrong before anything is started.

    `planned`: Stage I need not have been run yet.
    """
    template_of(config.trajectories)
    try:
        Templates(**asdict(config.templates))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    check_rules("trajectories", "trajectories", config.trajectories)
    check_rules("pairs", "outputs", config.pairs)
    check_run_dir(config.run_dir)
    if not planned:
        _check_stage1(config.stage1_dir, config.policy.model)
        check_model("policy.model", config.policy.model)
    sets = {"search": config.prompts.search, "sample": config.prompts.sample}
    if config.evaluation is not None:
        sets["evaluate"] = config.evaluation.prompts
        load_oracle(config.evaluation.oracle)
    if config.start == Start.policy or _is_seed_asked_for(config):
        check_model("seed_model", config.seed_model or "")
    check_prompts({step: prompts for step, prompts in sets.items() if step in config.steps})
    check_model("reward_model.model", config.reward_model.model, scores=True)
    whole = {**config.policy.sampling, **config.outputs.sampling}
    check_role("policy", config.policy)
    check_role("policy", replace(config.policy, sampling=whole), sampling_at="outputs.sampling")
    check_role("reward_model", config.reward_model, scores=True)
    check_training("rsft", config.rsft)
    check_training("dpo", config.dpo)
    check_models(uses_of(config), stand_in(config))


def plan_answer(config: AnswerConfig) -> list[StepPlan]:
    """The one step of answering. Raises ConfigError like a run would."""
    check_values(config)
    check_replicas({"policy": config.policy})
    template_of(config.trajectories)
    check_run_dir(config.run_dir)
    check_prompts({"answer": config.prompts})
    check_model("policy.model", config.policy.model)
    check_role("policy", config.policy)
    if config.steps != ["answer"]:
        raise ConfigError(f"steps is {config.steps}; there is one step: answer")
    check_models(uses_of(config))
    pool = engines("policy", config.policy, 1)
    return [StepPlan("answer", (pool,), True, config.queries.cpus_per_task)]


def own_judge_of(config: Stage2Config) -> OwnJudge | None:
    """The policy as the judge of its outputs; None where the reward model is. ConfigError."""
    asked = config.outputs
    if not asked.judgements:
        return None
    if not template_of(config.trajectories).plain:
        raise ConfigError("outputs.judgements goes with trajectories.template 'plain'")
    if config.prompts.sample.answer_field:
        raise ConfigError("outputs.judgements: prompts.sample.answer_field is not judged by it")
    if not asked.meta_request.strip():
        raise ConfigError("outputs.meta_request is empty: the policy would not be asked")
    return OwnJudge(asked.judgements, asked.meta_request, asked.max_tries)


def _check_stage1(stage1_dir: str | None, model: str) -> None:
    if stage1_dir is None:
        if model.startswith("None/"):
            raise ConfigError(f"policy.model is {model!r}: stage1_dir is not set")
        return
    if not location(stage1_dir).is_dir():
        raise ConfigError(
            f"stage1_dir: no folder {stage1_dir}; jobs/stage1.py makes one, and "
            "stage1_dir=DIR names another"
        )
    inside = model.startswith(f"{stage1_dir.rstrip('/')}/")
    # On a store a model arrives file by file, and its record last.
    last = "training.json" if "://" in model else "config.json"
    if inside and not (location(model) / last).exists():
        raise ConfigError(f"no model at {model}: Stage I has not come to its end there")


def _check(config: Stage2Config) -> None:
    unknown = [step for step in config.steps if step not in STAGE2_STEPS]
    if unknown:
        raise ConfigError(f"unknown step {unknown[0]!r}; there are: {', '.join(STAGE2_STEPS)}")
    check_values(config)
    loop = [step for step in config.steps if step in LOOP_STEPS]
    if template_of(config.trajectories).plain and loop:
        raise ConfigError(
            f"trajectories.template is 'plain', which has no loop to learn: step {loop[0]} has no"
            " use for it. steps=[sample,pair,dpo,evaluate] is DPO on whole answers"
        )
    if _is_seed_asked_for(config) and config.seed_model is None:
        raise ConfigError("evaluation: seed_model is not set, and all models are compared with it")
    from_input = config.first_answer == FirstAnswer.input
    if from_input and "search" in config.steps and not config.prompts.search.answer_field:
        raise ConfigError("first_answer is 'input', but prompts.search.answer_field is not set")
    share = config.trajectories.unchanged_share
    if not 0 <= share <= 1:
        raise ConfigError(f"trajectories.unchanged_share is {share}, must lie between 0 and 1")
    malformed = config.pairs.malformed_share
    if not malformed < 1:
        raise ConfigError(f"pairs.malformed_share is {malformed}, must lie below 1")
    pairs, outputs = config.pairs.per_prompt, config.outputs.num_outputs
    if pairs > outputs // 2:
        raise ConfigError(
            f"pairs.per_prompt is {pairs}, which takes {2 * pairs} outputs of a prompt;"
            f" outputs.num_outputs is {outputs}"
        )
    check_replicas({"policy": config.policy, "reward_model": config.reward_model})
    if config.evaluation is not None:
        check_rounds(config.evaluation.rounds, ("seed", "stage1"))
