"""Stage I: grow refinement trees, train on them by RSFT, grow again, train by DPO, evaluate.

    python jobs/stage1.py conf/miniature/stage1.yaml [key=value ...] [--plan]
    ray job submit --working-dir . -- python jobs/stage1.py conf/llama3_8b/stage1.yaml \\
        run_dir=/shared/runs/llama3_8b

Run it again and it continues where it stopped. `steps=[grow_rsft,select]` runs some steps only.
"""

import sys

from avr.config.stage1 import Stage1Config
from avr.pipeline.plan_stage1 import plan_stage1, prompts_stage1
from avr.plan.resources import StepPlan
from avr.run.command import job


def run(config: Stage1Config) -> None:
    """The steps; what is slow to import comes after the checks."""
    from avr.pipeline import stage1

    stage1.run(config)


def plan(config: Stage1Config) -> list[StepPlan]:
    """What it takes; starts nothing."""
    from avr.pipeline.preflight import preflight

    steps = plan_stage1(config)
    preflight(config)
    return steps


if __name__ == "__main__":
    sys.exit(job(__doc__, Stage1Config, run, plan, prompts_stage1))
