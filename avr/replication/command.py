"""Run the command line of a replication."""

import argparse

from avr.config.load import load
from avr.config.table import ReplicateConfig
from avr.run.command import parser_of, status_of


def replicate(documentation: str | None) -> int:
    """Parse the arguments, check, run; return the exit status.

    With --plan the commands are printed, not started. Each job says by itself, with --plan, what it
    takes.
    """
    parser = parser_of(documentation)
    parser.add_argument("config", help="a YAML file; conf/ holds recipes")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--plan", action="store_true", help="say the commands, start nothing")
    arguments = parser.parse_intermixed_args()
    return status_of(lambda: _done(arguments))


def _done(arguments: argparse.Namespace) -> int:
    config = load(ReplicateConfig, arguments.config, arguments.overrides)
    if not arguments.plan:
        from avr.replication import running

        running.run(config)
        return 0
    from avr.replication.commands import check, command_of

    check(config)
    for seed in config.seeds:
        for name in config.jobs:
            print("python", *command_of(config, name, seed)[1:])
    return 0
