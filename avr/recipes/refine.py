"""Let a Stage I model criticise and refine the answers of any other model."""

from avr.config.answers import Mode, RefineConfig
from avr.config.errors import ConfigError
from avr.core.trajectory import PLAIN
from avr.evaluation.judged import load_oracle
from avr.reports.refined import write_refined
from avr.rewards.reward import only_classifier
from avr.run.recipe import Recipe
from avr.run.step import Run
from avr.steps.answer import Answer
from avr.steps.entrant import Entrant

SCHEMA = RefineConfig
MODEL = "model"


def recipe(c: RefineConfig) -> Recipe:
    """Refine answers in one step, which leaves RUN_DIR/answers.json(l). Raises ConfigError."""
    if not c.answers.answer_field:
        raise ConfigError("answers.answer_field is not set: which field holds the answers?")
    model = Entrant(MODEL, c.policy.model, Mode.refine, c.rounds)
    judge = only_classifier(c.reward_model) if c.reward_model else None
    how = {"given": True, "gated": judge is not None}
    refined = Answer.of(c, "refine", c.answers, (model,), judge, PLAIN, c.tree, **how)

    def finish(run: Run) -> None:
        asked = run.ledger.result("refine")["input"]["num_rows"]
        write_refined(c, run.of(refined) / MODEL, asked, run.folder)

    return Recipe("Refined answers", (refined,), finish, check=lambda: load_oracle(c.oracle))
