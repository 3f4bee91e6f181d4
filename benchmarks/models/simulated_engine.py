"""Simulate engines that only take time: slots, a prefill rate and a decode step.

One object stands for several engines of a pool (SIMULATED_ENGINES in the role's environment), so
that a thousand fit on one machine: their slots are one queue, as requests to a pool are.
"""

import asyncio
import time
from pathlib import Path

from measure.measuring import wait_for_all

from avr.core.messages import content_id
from avr.core.roles import Completion

# An 8B model on one 80 GB GPU, in round numbers: 16 GiB of weights at 3 TB/s are 6 ms a step, and
# attention over 64 sequences, sampling and scheduling are as much again.
SLOTS = 64
STEP_S = 0.012
PREFILL_TOKENS_PER_S = 20_000.0
TOKENS = (100, 300)  # of a sample, least and most
CHARACTERS_PER_TOKEN = 4


def make_engine(role, config, seed):
    """Make an engine for `avr.hosting.host.Hosted`, once all processes of the run are ready."""
    folder = Path(config.env["BENCHMARK_FOLDER"])
    time.sleep(float(config.env["SIMULATED_START_S"]))
    wait_for_all(folder, role, config.env["BENCHMARK_PROCESSES"])
    number, slowness = config.env["SIMULATED_ENGINES"], config.env["SIMULATED_SLOWNESS"]
    return SimulatedEngine(int(number), float(slowness))


class SimulatedEngine:
    """Generate and Score; texts have lengths but no meaning, critiques end with a rating."""

    identity = "simulated"

    def __init__(self, engines, slowness):
        self._slots = asyncio.Semaphore(engines * SLOTS)
        self._slowness = slowness

    async def generate(self, conversation, n, seed):
        """Take the time of `n` samples, each in a slot of its own."""
        prompt = sum(len(message.content) for message in conversation) // CHARACTERS_PER_TOKEN
        return tuple(await asyncio.gather(*(self._sample(prompt, seed + i) for i in range(n))))

    async def score(self, conversation):
        """Take the time of one prefill."""
        text = conversation[-1].content
        await self._take(len(text) / CHARACTERS_PER_TOKEN / PREFILL_TOKENS_PER_S)
        return int(content_id(text)[:6], 16) / 1e6

    async def _sample(self, prompt_tokens, seed):
        least, most = TOKENS
        tokens = least + seed % (most - least)
        await self._take(prompt_tokens / PREFILL_TOKENS_PER_S + tokens * STEP_S)
        text = f"{seed:x} " + "word " * (tokens * CHARACTERS_PER_TOKEN // 5) + "Rating: [[7]]"
        return Completion(text, "stop", tokens)

    async def _take(self, seconds):
        async with self._slots:
            if self._slowness:
                await asyncio.sleep(seconds * self._slowness)
