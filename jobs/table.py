"""Several models answer the same held-out prompts; a table says how they compare.

    python jobs/table.py conf/miniature/table.yaml runs_dir=RUNS [key=value ...] [--plan]

Writes answers.parquet (every answer, to be read), table.md, table.json and pictures to RUN_DIR.
Run it again and it continues where it stopped.
"""

import sys

from avr.config.prompts import PromptsConfig
from avr.config.table import TableConfig
from avr.plan.resources import StepPlan
from avr.run.command import job


def run(config: TableConfig) -> None:
    """The answers and the table; what is slow to import comes after the checks."""
    from avr.pipeline import entrants

    entrants.run(config)


def plan(config: TableConfig) -> list[StepPlan]:
    """What it takes; starts nothing."""
    from avr.pipeline.plan_table import plan_table

    return plan_table(config)


def prompts(config: TableConfig) -> dict[str, tuple[str, PromptsConfig]]:
    """What the step reads."""
    return {"answer": ("answer", config.prompts)}


if __name__ == "__main__":
    sys.exit(job(__doc__, TableConfig, run, plan, prompts))
