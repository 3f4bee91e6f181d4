"""Answer prompts with a recursive model; write the final answer and the thinking apart."""

from dataclasses import dataclass, field

from avr.config.answers import Mode
from avr.config.fields import at_least
from avr.config.prompts import PromptsConfig
from avr.config.rows import TrajectoriesConfig, TreeConfig, template_of
from avr.config.run import AskingConfig
from avr.reports.answered import write_answers
from avr.run.recipe import Recipe
from avr.run.step import Run
from avr.steps.answer import Answer
from avr.steps.entrant import Entrant


@dataclass
class AnswerConfig(AskingConfig):
    """Configure a job in which a recursive model answers prompts; thinking is kept apart."""

    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    max_tries: int = at_least(1, 1)


SCHEMA = AnswerConfig
MODEL = "model"


def recipe(c: AnswerConfig) -> Recipe:
    """Answer in one step, which leaves RUN_DIR/answers.jsonl."""
    template = template_of(c.trajectories)
    model = Entrant(MODEL, c.policy.model, Mode.recursive, max_tries=c.max_tries)
    answers = Answer.of(c, "answer", c.prompts, (model,), None, template, TreeConfig())

    def finish(run: Run) -> None:
        write_answers(run.of(answers), MODEL, run.ledger.result("answer"), template, run.folder)

    return Recipe("Answers", (answers,), finish)
