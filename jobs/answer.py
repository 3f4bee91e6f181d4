"""Answer prompts with a Stage II model: final answers and thinking apart, failures reported.

    python jobs/answer.py conf/miniature/answer.yaml [key=value ...] [--plan]
    python jobs/answer.py conf/miniature/answer.yaml prompts.path=mine.jsonl run_dir=runs/mine

Writes RUN_DIR/answers.jsonl. Run it again and it continues where it stopped. From Python:
`avr.pipeline.answering.answer_prompts(config)`.
"""

import sys

from avr.config.answers import AnswerConfig
from avr.plan.resources import StepPlan
from avr.run.command import job


def run(config: AnswerConfig) -> None:
    """The answers; what is slow to import comes after the checks."""
    from avr.pipeline.answering import answer_prompts

    answer_prompts(config)


def plan(config: AnswerConfig) -> list[StepPlan]:
    """What it takes; starts nothing."""
    from avr.pipeline.plan_stage2 import plan_answer

    return plan_answer(config)


if __name__ == "__main__":
    sys.exit(job(__doc__, AnswerConfig, run, plan, lambda c: {"answer": ("answer", c.prompts)}))
