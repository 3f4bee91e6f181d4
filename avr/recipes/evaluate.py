"""Answer a prompt set with a model, and have a judge compare it with a baseline."""

from avr.config.answers import (
    DuelEndpointConfig,
    EvaluateConfig,
    Format,
    JudgeConfig,
    JudgeKind,
    Mode,
)
from avr.config.errors import ConfigError
from avr.config.roles import RoleConfig
from avr.config.rows import template_of
from avr.data.answer_files import alpaca_record, arena_record, write_records
from avr.reports.answers import answers_of, baseline_of, duels_of
from avr.reports.evaluation import report
from avr.run.recipe import Recipe
from avr.run.step import Run, Step
from avr.steps.answer import Answer
from avr.steps.entrant import Entrant
from avr.steps.judge import Judge
from avr.terminal import indented

SCHEMA = EvaluateConfig
MODEL = "model"


def recipe(c: EvaluateConfig) -> Recipe:
    """Answer, and judge where there is a baseline. Raises ConfigError for a mode without sense."""
    if c.rounds and c.mode != Mode.refine:
        raise ConfigError(f"rounds is {c.rounds}, and mode {c.mode.value} has none")
    if not c.rounds and c.mode == Mode.refine:
        raise ConfigError("rounds is 0, and mode refine needs at least 1")
    if "/" in c.name or not c.name:
        raise ConfigError(f"name is {c.name!r}, which is to be the name of a file")
    model = Entrant(MODEL, c.policy.model, c.mode, c.rounds)
    template = template_of(c.trajectories)
    answers = Answer.of(c, "answer", c.prompts, (model,), None, template, c.tree)
    steps: list[Step] = [answers]
    if c.baseline is not None:
        by = _judge(c.judge)
        steps.append(Judge("judge", answers, c.baseline, c.format, by, c.queries, c.serving))
    elif c.steps and "judge" in c.steps:
        raise ConfigError("baseline is not set, and step judge needs it")

    def ready() -> None:
        """Find prompts without a duel before anything is spent."""
        if c.baseline is not None:
            # Their own words about files that are not there are the better ones.
            for step in steps:
                step.check()
            baseline_of(c)

    return Recipe("Evaluation", tuple(steps), lambda run: _write(c, run, answers), ready=ready)


def _judge(config: JudgeConfig) -> DuelEndpointConfig | RoleConfig | str:
    if config.kind == JudgeKind.endpoint:
        return config.endpoint
    if config.kind == JudgeKind.oracle:
        return config.oracle or ""
    if config.reward_model is None:
        raise ConfigError("judge.kind is reward_model, but judge.reward_model is not set")
    return config.reward_model


def _write(c: EvaluateConfig, run: Run, answered: Answer) -> None:
    # With steps=[judge] nothing has looked yet whether these answers are of this model.
    run.ledger.check_same(answered.name, run.decided_by(answered))
    there = run.of(answered) / MODEL
    answers = list(answers_of(c, there))
    if c.format == Format.alpaca_eval:
        file, field = run.folder / "outputs.json", c.prompts.prompt_field
        records = (alpaca_record(a.row, field, a.text, c.name) for a in answers)
    else:
        file = run.folder / f"{c.name}.jsonl"
        records = (arena_record(a.row, a.text, c.name) for a in answers)
    indented(f"{write_records(file, records)} answers: {file}")
    judged = c.baseline is not None and "judge" in run.ledger.seconds()
    duels = list(duels_of(c, there)) if judged else []
    settings = run.ledger.inputs("judge") if judged else {}
    report(c, run.folder, duels, answers, settings, indented)
