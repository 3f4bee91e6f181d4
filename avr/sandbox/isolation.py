"""Find out which isolation works on this machine, by running a trivial program in it."""

import shutil
import subprocess
from dataclasses import replace
from functools import cache

from avr.config.sandbox import Isolation, SandboxConfig
from avr.sandbox.job import ENVIRONMENT, Job, SandboxError
from avr.sandbox.verdict import Result

_PROBE_S = 60.0
_BEST_FIRST = (Isolation.bubblewrap, Isolation.namespaces)


@cache
def available(isolation: Isolation) -> str:
    """Say why an isolation does not work on this machine; "" if it does.

    Runs a program, which takes some 0.1 s the first time; blocks meanwhile.
    """
    if isolation is Isolation.bubblewrap and not shutil.which("bwrap"):
        return "there is no program bwrap (Debian's package bubblewrap)"
    job = Job("def f(x): return x + 1", ["assert f(1) == 2"], "", SandboxConfig(isolation))
    try:
        done = subprocess.run(
            job.command, input=job.text, capture_output=True, env=ENVIRONMENT, timeout=_PROBE_S
        )
        (outcome,) = job.verdict(done.stdout, done.stderr, done.returncode).outcomes
    except (SandboxError, OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if outcome.result is Result.passed else outcome.told


def resolve(config: SandboxConfig) -> SandboxConfig:
    """Replace `auto` by the best isolation that works; `config.isolation` then has its name.

    Blocks while it looks for one. Raises SandboxError if the one named, or each of those that
    `auto` may be, does not work.
    """
    named = config.isolation
    tried = {
        each: available(each) for each in (_BEST_FIRST if named is Isolation.auto else (named,))
    }
    for isolation, missing in tried.items():
        if not missing:
            return replace(config, isolation=isolation)
    reasons = "; ".join(f"{isolation.value}: {missing}" for isolation, missing in tried.items())
    raise SandboxError(
        f"programs cannot be run in isolation on this machine ({reasons}); install bubblewrap "
        "(Debian's package of that name) or allow user namespaces; sandbox.isolation=process asks "
        "for less: limits alone, with this machine's files and network in the program's reach"
    )
