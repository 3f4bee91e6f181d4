"""The command line that all jobs share: a configuration file, overrides, `--plan`."""

import argparse
import sys
from collections.abc import Callable
from typing import TypeVar

from avr.config import ConfigError
from avr.loading import load
from avr.versions import check_versions

C = TypeVar("C")
STOPPED = 130  # the shell's for an interrupted command


def job(
    documentation: str | None,
    schema: type[C],
    run: Callable[[C], None],
    show_plan: Callable[[C], None],
) -> int:
    """Parse, check, run; returns the exit status. What a user did wrong is one line on stderr."""
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a YAML file; conf/ holds recipes")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--plan", action="store_true", help="say what it takes, start nothing")
    arguments = parser.parse_intermixed_args()
    try:
        check_versions()
        config = load(schema, arguments.config, arguments.overrides)
        (show_plan if arguments.plan else run)(config)
    except (ConfigError, RuntimeError, ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C; Ray turns SIGTERM (`ray job stop`) into exits
        print(
            "stopped from outside: what is committed is kept, the same command continues",
            file=sys.stderr,
        )
        return STOPPED
    return 0
