"""Let a Stage I model criticise and refine the answers of any other model.

    python jobs/refine.py conf/miniature/refine.yaml [key=value ...] [--plan]
    python jobs/refine.py conf/miniature/refine.yaml answers.path=outputs.json oracle=null \\
        run_dir=runs/mine

Takes AlpacaEval's JSON, JSONL or Parquet with a prompt and an answer a row; writes the same rows,
refined, to RUN_DIR/answers.json(l). Run it again and it continues where it stopped.
"""

import sys

from avr.config.answers import RefineConfig
from avr.plan.resources import StepPlan
from avr.run.command import job


def run(config: RefineConfig) -> None:
    """The answers; what is slow to import comes after the checks."""
    from avr.pipeline.refining import refine_answers

    refine_answers(config)


def plan(config: RefineConfig) -> list[StepPlan]:
    """What it takes; starts nothing."""
    from avr.pipeline.plan_evaluation import plan_refine

    return plan_refine(config)


if __name__ == "__main__":
    sys.exit(job(__doc__, RefineConfig, run, plan, lambda c: {"refine": ("refine", c.answers)}))
