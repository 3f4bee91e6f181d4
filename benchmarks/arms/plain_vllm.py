"""Measure the ceiling: plain offline vLLM replays recorded requests, all at once.

Each engine is a process of its own with the flags of ours. It has every request from the start,
sorted so that those with a common prefix stand together: no answer has to be waited for, nothing
travels between models, nothing is parsed or written.
"""

import json
import multiprocessing
import os
import time
import traceback
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

import psutil


@contextmanager
def plain_engines(roles, folder):
    """Start an engine per role (a RoleConfig each); gives a function that replays recordings.

    Recordings are `folder/ROLE.requests.jsonl`. The function returns when it started and ended
    (time.time) and how many tokens were generated; then per role the same, requests third.
    """
    spawn = multiprocessing.get_context("spawn")
    lines = {}
    processes = []
    for role, config in roles.items():
        ours, theirs = spawn.Pipe()
        log = folder / f"plain-{role}.log"
        process = spawn.Process(target=serve, args=(theirs, log, _answer, role, config, folder))
        process.start()
        theirs.close()
        processes.append(process)
        lines[role] = ours
    try:
        for line in lines.values():
            hear(line)
        yield lambda: _replay(lines)
    finally:
        for line in lines.values():
            with suppress(OSError):  # it has ended with an error of its own
                line.send(None)
        for process in processes:
            process.join()


def _replay(lines):
    for line in lines.values():
        line.send("load")
    for line in lines.values():
        hear(line)
    for line in lines.values():
        line.send("go")
    by_role = {role: hear(line) for role, line in lines.items()}
    begun, done, _, generated = zip(*by_role.values(), strict=True)
    return min(begun), max(done), sum(generated), by_role


def hear(line):
    """Receive what a process of `serve` has sent. Raises RuntimeError with its traceback."""
    said = line.recv()
    if isinstance(said, str) and said not in ("ready", "loaded"):
        raise RuntimeError(said)
    return said


def serve(line, log, answer, *arguments):
    """Run `answer(line, *arguments)` in a process with engines: print to `log`, end it all."""
    from avr.hosting.logs import redirect_output

    redirect_output(log)
    try:
        answer(line, *arguments)
    except EOFError:
        pass  # the driver is gone
    except Exception:
        with suppress(OSError):
            line.send(traceback.format_exc())
    for child in psutil.Process().children(recursive=True):
        child.kill()  # the engine cores, which would be waited for
    os._exit(0)


def _answer(line, role, config, folder):
    os.environ.update(config.env)  # vLLM reads it on import
    from vllm import LLM, PoolingParams, SamplingParams

    from avr.config.roles import is_reward_model
    from avr.engines.engine import engine_settings

    scores = is_reward_model(role)
    settings = engine_settings(config, scores=scores)
    llm = LLM(model=config.model, trust_remote_code=config.trust_remote_code, **settings)
    line.send("ready")
    while line.recv() == "load":
        requests = load(folder / f"{role}.requests.jsonl")
        prompts = [{"prompt_token_ids": request["ids"]} for request in requests]
        params = [one["params"] and SamplingParams(**one["params"]) for one in requests]
        llm.reset_prefix_cache()
        line.send("loaded")
        assert line.recv() == "go"
        started = time.time()
        if scores:
            raw = PoolingParams(use_activation=False)
            llm.encode(prompts, pooling_params=raw, pooling_task="classify", use_tqdm=False)
            generated = 0
        else:
            outputs = llm.generate(prompts, params, use_tqdm=False)
            generated = sum(len(one.token_ids) for output in outputs for one in output.outputs)
        line.send((started, time.time(), len(requests), generated))


def load(file):
    """Load recorded requests, those with a common prefix side by side."""
    requests = [json.loads(text) for text in Path(file).read_text().splitlines()]
    return sorted(requests, key=lambda request: request["ids"])


def unique_prefix_tokens(requests):
    """Count the prompt tokens that an endless prefix cache would compute: nodes of a trie."""
    total, before = 0, []
    for request in requests:
        ids = request["ids"]
        same = takewhile(lambda pair: pair[0] == pair[1], zip(before, ids, strict=False))
        total += len(ids) - sum(1 for _ in same)
        before = ids
    return total


def tokens_in_blocks(requests, block):
    """Count the prompt tokens computed by an engine that keeps all whole blocks of prompts.

    As in vLLM, each of n samples counts, and a prompt's last token is always computed.
    """
    total, kept = 0, set()
    for request in requests:
        ids = tuple(request["ids"])
        for _ in range((request["params"] or {}).get("n", 1)):
            ends = range(block, len(ids), block)
            known = takewhile(lambda end, ids=ids: ids[:end] in kept, ends)
            total += len(ids) - block * sum(1 for _ in known)
            kept.update(ids[:end] for end in range(block, len(ids) + 1, block))
    return total


def prefixes(folder, roles):
    """Compare the prompt tokens that engines computed with those of endless prefix caches.

    `unique`: of a cache that keeps single tokens; `in_blocks`: of one with the engine's blocks.
    """
    found = {}
    for role in roles:
        counts = json.loads((folder / f"{role}.counts.json").read_text())
        requests = load(folder / f"{role}.requests.jsonl")
        unique = unique_prefix_tokens(requests)
        in_blocks = tokens_in_blocks(requests, counts["block"])
        computed = counts["prompt"] - counts["cached"]
        found[role] = counts | {
            "unique": unique,
            "computed_per_unique": round(computed / unique, 3),
            "in_blocks": in_blocks,
            "computed_per_in_blocks": round(computed / in_blocks, 3),
        }
    return found
