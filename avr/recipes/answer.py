"""Answer prompts with a recursive model; write the final answer and the thinking apart."""

from avr.config.answers import AnswerConfig, Mode
from avr.config.rows import TreeConfig, template_of
from avr.reports.answered import write_answers
from avr.run.recipe import Recipe
from avr.run.step import Run
from avr.steps.answer import Answer, Entrant

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
