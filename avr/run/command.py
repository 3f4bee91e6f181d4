"""Run the command line that all jobs share: a configuration file, overrides, `--plan`."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.prompts import PromptsConfig
from avr.plan.fit import NodeType, misfits
from avr.plan.forecast import Means, by_role, forecast, mean_tokens, other_models
from avr.plan.memory import PoolMemory, memory_of
from avr.plan.resources import StepPlan
from avr.run.versions import check_versions

if TYPE_CHECKING:
    from avr.run.step import Step

# The exit status that a shell gives to an interrupted command.
STOPPED = 130
# Arrow's own memory pool keeps all that it once needed: with 300,000 prompts, 28 MiB more of a
# driver's memory than malloc. The pool is chosen when pyarrow is imported.
MALLOC = ("ARROW_DEFAULT_MEMORY_POOL", "system")


def job(documentation: str | None, module: str) -> int:
    """Parse the arguments, check, run; return the exit status.

    A mistake of the user's is one line on stderr. `module` names one of `avr.recipes`, or one like
    it: `SCHEMA` is the type of its configuration, `recipe` makes a `Recipe` of one and raises
    ConfigError. It may have a function `planned`: it turns a configuration into one that can be
    planned where models are not there yet. The module is imported here, after the setting that
    Arrow reads on import.
    """
    parser = parser_of(documentation)
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
    # Before the next import, which imports pyarrow.
    os.environ.setdefault(*MALLOC)
    recipes = import_module(module)
    # Whoever gives an option of the plan and forgets --plan does not want to start a run.
    for option in ("cluster", "probe", "mean_tokens", "tokens_per_second"):
        if getattr(arguments, option) is not None and not arguments.plan:
            parser.error(f"--{option.replace('_', '-')} requires --plan; nothing was started")
    if arguments.tokens_per_second and not (arguments.mean_tokens or arguments.probe):
        parser.error("--tokens-per-second needs the tokens of a text: --mean-tokens, or --probe")
    return status_of(lambda: _done(recipes, arguments))


def parser_of(documentation: str | None) -> argparse.ArgumentParser:
    """Make a parser that shows a job's own documentation as it is."""
    return argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def status_of(
    work: Callable[[], int],
    kept: str = "what is committed is kept, the same command continues",
) -> int:
    """Do the work of a job and return its exit status; say in one line what has ended it.

    `kept` says what is there after a stop from outside.
    """
    try:
        return work()
    except (ConfigError, RuntimeError, ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):
        # Ctrl-C gives the first; Ray turns SIGTERM (of `ray job stop`) into the second.
        print(f"stopped (by a signal); {kept}", file=sys.stderr)
        return STOPPED


def _done(recipes: Any, arguments: argparse.Namespace) -> int:
    from avr.run.runner import asked_for, checked, run

    check_versions()
    config = load(recipes.SCHEMA, arguments.config, arguments.overrides)
    if not arguments.plan:
        run(config, recipes.recipe(config))
        return 0
    config = getattr(recipes, "planned", lambda same: same)(config)
    recipe = recipes.recipe(config)
    steps = checked(config, recipe)
    means = Means(arguments.mean_tokens, arguments.tokens_per_second)
    nodes = _nodes(arguments.cluster)
    memory = memory_of(steps, config.gpu_memory_gib, nodes or ())
    _show(steps, memory, _sources(asked_for(config, recipe)), arguments.probe, means)
    return 0 if _fits(steps, memory, nodes, arguments.cluster) else 1


def _sources(steps: Sequence["Step"]) -> dict[str, tuple[str, PromptsConfig]]:
    """Map each step with devices to the step whose prompts it depends on, and to those prompts."""
    sources = {step.name: step.source() for step in steps if step.needs() is not None}
    return {
        name: (source.name, source.prompts)
        for name, source in sources.items()
        if source is not None and hasattr(source, "prompts")
    }


def positive_number(text: str) -> float:
    """Parse a positive number from an option; raise ValueError for anything else.

    Users see the name of this function where their value is not one.
    """
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
    from avr.data.prompt_sets import count_rows
    from avr.plan.show import print_forecast, print_memory, print_plan, print_roles
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
    """Read the nodes that the cluster file may start; None where no file is given."""
    from avr.plan.cluster_files import node_types

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
