"""Every hostile program gets what it must, none passes, and nothing of it is left."""

import asyncio
import os

import pytest
from breakers import BREAKERS
from forgers import FORGERS
from leftovers import left

from avr.config.sandbox import Isolation, SandboxConfig
from avr.sandbox.isolation import available
from avr.sandbox.run import run_tests

PROGRAMS = {**FORGERS, **BREAKERS}
PATIENT = SandboxConfig(Isolation.namespaces, wall_s=60, cpu_s=1, memory_mib=256)
HASTY = SandboxConfig(Isolation.namespaces, wall_s=0.7, cpu_s=9, memory_mib=256)


@pytest.fixture(scope="module")
def outcomes():
    """Run all of them, some at a time: several only wait for their time to be up."""
    if missing := available(Isolation.namespaces):
        pytest.skip(f"no namespaces on this machine: {missing}")
    before = left()
    places = asyncio.Semaphore(2 * (os.cpu_count() or 1))

    async def outcome(program, test, _, words):
        config = HASTY if words.startswith("no result after") else PATIENT
        async with places:
            return (await run_tests(program, [test], "", config)).outcomes[0]

    async def all_of_them():
        found = await asyncio.gather(*(outcome(*each) for each in PROGRAMS.values()))
        return dict(zip(PROGRAMS, found, strict=True))

    found = asyncio.run(all_of_them())
    assert left() == before
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_gets_what_it_must(name, outcomes):
    _, _, result, words = PROGRAMS[name]
    outcome = outcomes[name]
    assert outcome.result.value in result.split("|"), outcome
    assert words in outcome.told
