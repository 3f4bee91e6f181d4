"""The command line that all jobs share: a configuration file, overrides, `--plan`."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from avr.config import ConfigError, PromptsConfig, RunConfig
from avr.loading import load
from avr.pipeline.fit import NodeType, misfits
from avr.pipeline.forecast import Means, by_role, forecast, mean_tokens, other_models
from avr.pipeline.model_checks import stand_in
from avr.pipeline.plan import StepPlan
from avr.pipeline.plan_memory import PoolMemory, memory_of
from avr.versions import check_versions

C = TypeVar("C")
STOPPED = 130  # the shell's for an interrupted command
# Arrow's own pool keeps what it once needed: 28 MiB of a driver's memory more than malloc, with
# 300,000 prompts. It is chosen when pyarrow is imported.
MALLOC = ("ARROW_DEFAULT_MEMORY_POOL", "system")


def job(
    documentation: str | None,
    schema: type[C],
    run: Callable[[C], None],
    plan: Callable[[C], Sequence[StepPlan] | None],
    prompts: Callable[[C], Mapping[str, tuple[str, PromptsConfig]]],
) -> int:
    """Parse, check, run; returns the exit status. What a user did wrong is one line on stderr.

    `plan`: the steps, or None of a job that only starts others. `prompts`: for each step, the step
    that reads its prompts, and which.
    """
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a YAML file; conf/ holds recipes")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value")
    parser.add_argument("--plan", action="store_true", help="say what it takes, start nothing")
    parser.add_argument("--cluster", metavar="FILE", help="with --plan: does it fit this cluster?")
    parser.add_argument(
        "--probe", metavar="RUN_DIR", help="with --plan: scale up what this small run has taken"
    )
    parser.add_argument(
        "--mean-tokens",
        type=positive_number,
        metavar="N",
        help="with --plan: tokens of one generated text (a whole output of Stage II is several)",
    )
    parser.add_argument(
        "--tokens-per-second", type=positive_number, metavar="N", help="with --plan: of one engine"
    )
    arguments = parser.parse_intermixed_args()
    os.environ.setdefault(*MALLOC)
    for option in ("cluster", "probe", "mean_tokens", "tokens_per_second"):
        if getattr(arguments, option) is not None and not arguments.plan:
            parser.error(f"--{option.replace('_', '-')} goes with --plan; nothing was started")
    if arguments.tokens_per_second and not (arguments.mean_tokens or arguments.probe):
        parser.error("--tokens-per-second needs the tokens of a text: --mean-tokens, or --probe")
    try:
        check_versions()
        config = load(schema, arguments.config, arguments.overrides)
        if not arguments.plan:
            run(config)
            return 0
        steps = plan(config)
        if steps is None:
            if arguments.cluster or arguments.probe:
                raise ConfigError("--cluster and --probe go with the jobs that this one starts")
            return 0
        means = Means(arguments.mean_tokens, arguments.tokens_per_second)
        nodes = _nodes(arguments.cluster)
        gpu_gib = config.gpu_memory_gib if isinstance(config, RunConfig) else None
        memory = memory_of(steps, gpu_gib, nodes or (), made=stand_in(config))
        _show(steps, memory, prompts(config), arguments.probe, means)
        return 0 if _fits(steps, memory, nodes, arguments.cluster) else 1
    except (ConfigError, RuntimeError, ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C; Ray turns SIGTERM (`ray job stop`) into exits
        print(
            "stopped from outside: what is committed is kept, the same command continues",
            file=sys.stderr,
        )
        return STOPPED


def positive_number(text: str) -> float:
    """The type of an option; its name is what a user reads of a value that is none."""
    number = float(text)
    if not number > 0:
        raise ValueError
    return number


def _show(
    steps: Sequence[StepPlan],
    memory: Sequence[PoolMemory],
    prompts: Mapping[str, tuple[str, PromptsConfig]],
    probe: str | None,
    means: Means,
) -> None:
    from avr.pipeline.prompts import count_rows  # both bring Ray along
    from avr.pipeline.summary import print_forecast, print_memory, print_plan, print_roles
    from avr.storage import location

    print_plan(steps)
    print_memory(memory)
    counts = {step: (source, count_rows(which)) for step, (source, which) in prompts.items()}
    known = {step: (source, count) for step, (source, count) in counts.items() if count is not None}
    small = location(probe) if probe else None
    if small and means.tokens is None:
        means = replace(means, tokens=mean_tokens(small), of_trees=True)
        if means.tokens_per_second and means.tokens is None:
            raise ConfigError(
                f"{probe} has grown no trees: --tokens-per-second needs --mean-tokens"
            )
    unknown = [step.step for step in steps if step.whole and means.of_trees]
    print_roles(by_role(steps, {step: count for step, (_, count) in known.items()}, means), unknown)
    if small:
        print_forecast(forecast(known, small), other_models(steps, small))


def _nodes(cluster: str | None) -> list[NodeType] | None:
    """Those that the cluster file may start, where one is given."""
    from avr.pipeline.cluster_files import node_types

    return None if cluster is None else list(node_types(Path(cluster)).values())


def _fits(
    steps: Sequence[StepPlan],
    memory: Sequence[PoolMemory],
    nodes: Sequence[NodeType] | None,
    cluster: str | None,
) -> bool:
    """Say what cannot fit a GPU, and whether the steps fit the cluster file, where one is given."""
    problems = [one.problem for one in memory if one.problem is not None]
    if nodes is not None:
        unplaced = misfits(steps, nodes)
        problems += unplaced or []
        if not unplaced:
            print(f"every step can be placed on {cluster}")
    if problems:
        print("\n".join(problems))
    return not problems
