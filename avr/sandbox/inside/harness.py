"""Evaluate a row's tests apart from the program that they test: the sandbox's trusted process.

It starts the keeper of the program's processes before it reads the tests, so that no copy of its
memory holds any. Tests are evaluated here; a call of the program goes to its process and comes
back as a value. Outcomes go to standard output, one frame each. A failure of the sandbox itself is
one line on standard error and exit status `BROKEN`.
"""

from __future__ import annotations

import os
import resource

from avr.sandbox.inside.limits import Limits, lower
from avr.sandbox.inside.plain import decode, encode
from avr.sandbox.inside.processes import START_S, Processes
from avr.sandbox.inside.trial import Outcome, tried
from avr.sandbox.inside.wire import receive, send

BROKEN = 70  # EX_SOFTWARE of sysexits.h
_MOST_JOB, _MOST_OUTCOME = 2**30, 2**16
_OWN_MIB = 512  # for the values of tests, beside those that a program may send


def main(arguments: list[str]) -> None:
    """Do the job on standard input; arguments: isolation, bubblewrap's file, limits."""
    status = BROKEN
    try:
        isolation, bubblewrap, *rest = arguments
        limits = Limits.from_arguments(rest)
        os.umask(0o022)  # the program, another user, has to enter the folders that are made
        processes = Processes(isolation, bubblewrap, limits)
        _work(processes, limits)
        processes.close()
        status = 0
    except Exception as error:
        os.write(2, f"{type(error).__name__}: {error}".encode(errors="replace"))
    finally:
        os._exit(status)  # without taking the interpreter down, which takes 4 ms


def _work(processes: Processes, limits: Limits) -> None:
    prelude, program, tests = decode(receive(0, _MOST_JOB), lambda *_: None)
    lower(resource.RLIMIT_AS, (limits.memory_mib + _OWN_MIB) * 2**20)
    # In case that whoever asked is gone and a test never ends.
    lower(resource.RLIMIT_CPU, int(len(tests) * (limits.wall_s + 1) + START_S))
    lost: Outcome | None = None  # of a program that does not load, for any test
    for test in tests:
        if lost is None:
            outcome, loaded = tried(processes, prelude, program, test, limits)
            lost = None if loaded else outcome
        send(1, encode(lost or outcome, _MOST_OUTCOME, str))
