"""The command line that all jobs share: a configuration file, overrides, `--plan`."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from avr.config import ConfigError, PromptsConfig
from avr.loading import load
from avr.pipeline.fit import misfits
from avr.pipeline.forecast import forecast
from avr.pipeline.plan import StepPlan
from avr.versions import check_versions

C = TypeVar("C")
STOPPED = 130  # the shell's for an interrupted command


def job(
    documentation: str | None,
    schema: type[C],
    run: Callable[[C], None],
    plan: Callable[[C], Sequence[StepPlan]],
    prompts: Callable[[C], Mapping[str, tuple[str, PromptsConfig]]],
) -> int:
    """Parse, check, run; returns the exit status. What a user did wrong is one line on stderr.

    `prompts`: for each step, the step that reads its prompts, and which.
    """
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a YAML file; conf/ holds recipes")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--plan", action="store_true", help="say what it takes, start nothing")
    parser.add_argument("--cluster", metavar="FILE", help="with --plan: does it fit this cluster?")
    parser.add_argument(
        "--probe", metavar="RUN_DIR", help="with --plan: scale up what this small run has taken"
    )
    arguments = parser.parse_intermixed_args()
    try:
        check_versions()
        config = load(schema, arguments.config, arguments.overrides)
        if not arguments.plan:
            run(config)
            return 0
        steps = plan(config)
        _show(steps, arguments.probe and prompts(config), arguments.probe)
        return 0 if _fits(steps, arguments.cluster) else 1
    except (ConfigError, RuntimeError, ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C; Ray turns SIGTERM (`ray job stop`) into exits
        print(
            "stopped from outside: what is committed is kept, the same command continues",
            file=sys.stderr,
        )
        return STOPPED


def _show(
    steps: Sequence[StepPlan],
    prompts: Mapping[str, tuple[str, PromptsConfig]] | None,
    probe: str | None,
) -> None:
    from avr.pipeline.prompts import count_rows  # both bring Ray along
    from avr.pipeline.summary import print_forecast, print_plan
    from avr.storage import location

    print_plan(steps)
    if prompts and probe:
        counts = {step: (source, count_rows(which)) for step, (source, which) in prompts.items()}
        print_forecast(forecast(counts, location(probe)))


def _fits(steps: Sequence[StepPlan], cluster: str | None) -> bool:
    """Say whether the steps fit the cluster file, where one is given."""
    from avr.pipeline.cluster_files import node_types

    if cluster is None:
        return True
    problems = misfits(steps, list(node_types(Path(cluster)).values()))
    print("\n".join(problems) or f"every step can be placed on {cluster}")
    return not problems
