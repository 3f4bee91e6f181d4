"""Wrap our engine: it waits for the others to start, and counts what it is asked.

The environment of the role (`env:`) says where: BENCHMARK_FOLDER; BENCHMARK_ENGINES is how many
wait for each other. While there is a file `record`, requests are written to ROLE.requests.jsonl.
"""

import json
import os
from pathlib import Path

from measure.measuring import Flights, wait_for_all
from vllm.v1.metrics.reader import get_metrics_snapshot

from avr.core.messages import run_seed_in
from avr.engines.engine import Engine


class MeasuredEngine(Engine):
    """Count what an engine is asked. Construction returns when all of the run are ready."""

    def __init__(self, role, config, seed):
        super().__init__(role, config, seed)
        folder = Path(os.environ["BENCHMARK_FOLDER"])
        self._record_file = folder / "record"
        self._requests_file = folder / f"{role}.requests.jsonl"
        self._counts_file = folder / f"{role}.counts.json"
        self._flights = ready(role, folder)

    async def generate(self, conversation, n, seed, sampling=None):
        # What `Engine.generate` hands to vLLM, seed included.
        params = {**(self._sampling if sampling is None else sampling)}
        params |= {"n": n, "seed": run_seed_in(seed, self._seed)}
        self._record(conversation, params)
        self._flights.change(n)
        tokens = 0
        try:
            samples = await super().generate(conversation, n, seed, sampling)
            tokens = sum(sample.num_tokens for sample in samples)
            return samples
        finally:
            self._landed(n, tokens)

    async def score(self, conversation):
        self._record(conversation, None)
        self._flights.change(1)
        try:
            return await super().score(conversation)
        finally:
            self._landed(1)

    def _record(self, conversation, params):
        if self._record_file.exists():
            ids = self._fitting(conversation, to_continue=params is not None, reserved=0)
            with self._requests_file.open("a") as file:
                file.write(json.dumps({"ids": ids, "params": params}) + "\n")

    def _landed(self, n, tokens=0):
        self._flights.change(-n, tokens)
        if self._record_file.exists():
            block = self._llm.vllm_config.cache_config.block_size
            self._counts_file.write_text(json.dumps({"block": block, **token_counts()}))


def ready(name, folder):
    """Give the `Flights` of an engine that has started, once all engines of the run have."""
    flights = Flights(folder / f"{name}.{os.getpid()}.flights")
    wait_for_all(folder, name, os.environ["BENCHMARK_ENGINES"])
    return flights


def token_counts():
    """Count this process's tokens so far; `prompt` less `cached` is what it computed."""
    found = {metric.name: metric for metric in get_metrics_snapshot()}
    names = {
        "prompt": "vllm:prompt_tokens",
        "cached": "vllm:prefix_cache_hits",
        "generated": "vllm:generation_tokens",
    }
    return {name: found[metric].value for name, metric in names.items()}
