"""Run a program against unit tests: the door to this room.

Trust: a row's tests and set-up code are the user's own; they are evaluated in a process of ours.
A program is an enemy's. It runs in other processes, gets the arguments of calls, and sends values
back; it never sees what a value is compared with, and whether a test passed is not for it to say.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from avr.config.sandbox import Isolation, SandboxConfig
from avr.sandbox.isolation import resolve
from avr.sandbox.job import ENVIRONMENT, Job
from avr.sandbox.verdict import Verdict

_GRACE_S = 30.0  # of a start on a busy machine, once; the harness keeps the time of tests itself
_GRACE_OF_TEST_S = 2.0


async def run_tests(
    program: str, tests: Sequence[str], setup: str, config: SandboxConfig
) -> Verdict:
    """Run a program against tests, each a few statements with assertions, in their order.

    `setup` is code that comes before each test. Tests and set-up use the program's top-level names
    as if they stood below it. Each test has the program loaded anew. The caller bounds how many run
    at a time: each takes about a core. Raises SandboxError where the sandbox does not work,
    ValueError for tests that are no Python.
    """
    if config.isolation is Isolation.auto:
        config = await asyncio.to_thread(resolve, config)
    job = Job(program, tests, setup, config)
    patience_s = _GRACE_S + job.num_tests * (config.wall_s + _GRACE_OF_TEST_S)
    pipe = asyncio.subprocess.PIPE
    harness = await asyncio.create_subprocess_exec(
        *job.command, stdin=pipe, stdout=pipe, stderr=pipe, env=ENVIRONMENT, start_new_session=True
    )
    late: list[str] = []

    def stop() -> None:
        late.append("the test took too long to evaluate")
        with suppress(ProcessLookupError):
            harness.kill()

    timer = asyncio.get_running_loop().call_later(patience_s, stop)
    try:
        output, errors = await harness.communicate(job.text)
    finally:
        timer.cancel()
        if harness.returncode is None:  # cancelled
            with suppress(ProcessLookupError):
                harness.kill()
            await harness.wait()
    return job.verdict(output, errors, harness.returncode or 0, "".join(late))
