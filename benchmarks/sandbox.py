"""Measure how many programs a second the sandbox runs, beside a bare interpreter that does nothing.

    python benchmarks/sandbox.py --rounds 5

A program has three tests of one call each, as a row of MBPP. Every arm runs `--programs` of them,
`--at-a-time` side by side; the arms take turns, the first round does not count. `bare` is
`python -c 0` in a process of its own, `least` the same without site-packages (`-I -S`): an
interpreter is started for each program, so none can be quicker. Isolations that do not work on the
machine are left out, and named. Writes results/sandbox.json and a picture.
"""

import argparse
import asyncio
import sys
import time

from measure.measuring import draw, spread, write_report

from avr.config.sandbox import Isolation, SandboxConfig
from avr.sandbox.isolation import available
from avr.sandbox.run import run_tests

BARE = {"bare": ("-c", "0"), "least": ("-I", "-S", "-c", "0")}
PROGRAM = "import math\ndef area(r): return math.pi * r * r"
TESTS = [f"assert abs(area({r}) - {3.14159265 * r * r}) < 1e-3" for r in (1, 2, 10)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--programs", type=int, default=60)
    parser.add_argument("--at-a-time", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    isolations = [each for each in Isolation if each is not Isolation.auto]
    missing = {each.value: why for each in isolations if (why := available(each))}
    arms = {**BARE, **{each.value: each for each in isolations if each.value not in missing}}
    rates = {arm: [] for arm in arms}
    for turn in range(arguments.rounds + 1):
        for arm, what in arms.items():
            rates[arm].append(asyncio.run(rate(what, arguments.programs, arguments.at_a_time)))
            print(f"round {turn}, {arm}: {rates[arm][-1]:.1f} programs/s", flush=True)
    counted = {arm: found[1:] for arm, found in rates.items()}
    report = {
        "programs_per_s": {arm: spread(found, 1) for arm, found in counted.items()},
        "ratios": ratios(counted),
        "missing": missing,
    }
    write_report("sandbox", vars(arguments), report)
    found = report["programs_per_s"]
    bars = [(arm, f["median"], f"{f['median']} {f['range']}") for arm, f in found.items()]
    draw("sandbox", "programs a second, median and range", bars)


def ratios(rates):
    """Divide each isolation's rate by those of a bare interpreter, round by round."""
    return {
        f"{arm} / {bare}": spread([a / b for a, b in zip(found, rates[bare], strict=True)])
        for bare in BARE
        for arm, found in rates.items()
        if arm not in BARE
    }


async def rate(what, number, at_a_time):
    """Run so many programs: how many a second."""
    places = asyncio.Semaphore(at_a_time)

    async def one():
        async with places:
            await (start(what) if isinstance(what, tuple) else judged(what))

    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(number)))
    return number / (time.perf_counter() - begun)


async def start(options):
    process = await asyncio.create_subprocess_exec(sys.executable, *options, env={})
    if await process.wait():
        raise RuntimeError(f"python {' '.join(options)} failed")


async def judged(isolation):
    verdict = await run_tests(PROGRAM, TESTS, "", SandboxConfig(isolation, wall_s=60))
    if verdict.num_passed != len(TESTS):
        raise RuntimeError(f"{isolation.value}: {[each.told for each in verdict.outcomes]}")


if __name__ == "__main__":
    sys.exit(main())
