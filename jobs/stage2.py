"""Stage II: search greedily, train on whole trajectories, sample whole outputs, train by DPO.

    python jobs/stage2.py conf/miniature/stage2.yaml [key=value ...] [--plan]
    ray job submit --working-dir . -- python jobs/stage2.py conf/llama3_8b/stage2.yaml \\
        run_dir=/shared/runs/llama3_8b-stage2 stage1_dir=/shared/runs/llama3_8b

Searches with the model that Stage I ended with (`stage1_dir`), and trains that model or, with
`start=policy`, the untrained one (`seed_model`). Run it again and it continues where it stopped.
`steps=[search,unroll]` runs some steps only.
"""

import sys

from avr.config.stage2 import Stage2Config
from avr.pipeline.plan_stage2 import plan_stage2, preflight, prompts_stage2
from avr.plan.resources import StepPlan
from avr.run.command import job


def run(config: Stage2Config) -> None:
    """The steps; what is slow to import comes after the checks."""
    from avr.pipeline import stage2

    stage2.run(config)


def plan(config: Stage2Config) -> list[StepPlan]:
    """What it takes; starts nothing."""
    steps = plan_stage2(config)
    preflight(config, planned=True)
    return steps


if __name__ == "__main__":
    sys.exit(job(__doc__, Stage2Config, run, plan, prompts_stage2))
