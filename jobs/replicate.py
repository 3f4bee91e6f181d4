"""Both stages and all baselines for several seeds, and one table of them.

    python jobs/replicate.py conf/miniature/replicate.yaml [seeds=[0]] [key=value ...] [--plan]

Starts each job as its own command, one after the other, and says which; pools the answers of all
seeds into RUN_DIR/table.md, table.json and pictures. Run it again and it continues where it
stopped. With --plan it says the commands and starts nothing.
"""

import sys

from avr.config.prompts import PromptsConfig
from avr.config.table import ReplicateConfig
from avr.run.command import job


def run(config: ReplicateConfig) -> None:
    """The jobs and the table; what is slow to import comes after the checks."""
    from avr.pipeline import replicating

    replicating.run(config)


def plan(config: ReplicateConfig) -> None:
    """Nothing of its own: each command says with --plan what it takes."""
    from avr.pipeline.plan_replicate import check, command_of

    check(config)
    for seed in config.seeds:
        for name in config.jobs:
            print("python", *command_of(config, name, seed)[1:])


def prompts(config: ReplicateConfig) -> dict[str, tuple[str, PromptsConfig]]:
    """None of its own."""
    return {}


if __name__ == "__main__":
    sys.exit(job(__doc__, ReplicateConfig, run, plan, prompts))
