"""Grow as the released code does: vLLM servers, a pool of threads, one request per sample.

A thread takes a query from the first answer to the last reward, one request after the other. A
malformed critique is asked for again, as in the growth it is compared with. The client is
`requests`.
"""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psutil
import requests

from avr.config.roles import RoleConfig, is_reward_model
from avr.core.messages import to_dicts
from avr.core.prompts import (
    answer_context,
    critique_context,
    refine_context,
    scored_conversation,
)
from avr.core.ratings import is_critique

START_TIMEOUT_S = 600
_OURS = threading.local()


@contextmanager
def servers(roles, folder):
    """Serve each role by one vLLM server, with the flags of our engines; gives {role: URL}."""
    started, urls = [], {}
    try:
        for role, config in roles.items():
            port = _free_port()  # a server that an earlier run left must not be what is measured
            flags = folder / f"server-{role}.json"
            flags.write_text(json.dumps({"role": role, "port": port, "config": asdict(config)}))
            command = [sys.executable, __file__, str(flags)]
            log = (folder / f"server-{role}.log").open("w")
            environment = os.environ | config.env | {"VLLM_SERVER_DEV_MODE": "1"}
            # Of a connection that was idle for 5 s the server hangs up, and maybe on a request.
            environment |= {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(START_TIMEOUT_S)}
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            started.append(process)
            urls[role] = f"http://127.0.0.1:{port}"
        for process, url in zip(started, urls.values(), strict=True):
            _wait_for(url, process)
        yield urls
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def grow_over_http(prompts, urls, roles, templates, shape, num_threads, folder):
    """Grow and score all answers; returns started, ended (time.time), trees, generated tokens."""
    from measure.measuring import Flights  # a server, which is this file too, has no path to it

    empty_caches(urls)
    clients = {
        role: Client(urls[role], config, Flights(folder / f"{role}.flights"))
        for role, config in roles.items()
    }
    started = time.time()
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(lambda prompt: _tree(prompt, clients, templates, shape), prompts))
    return started, time.time(), len(prompts), sum(client.tokens for client in clients.values())


def empty_caches(urls):
    """Have every server forget the prefixes that it knows."""
    for url in urls.values():
        requests.post(f"{url}/reset_prefix_cache", timeout=60).raise_for_status()


def _tree(prompt, clients, templates, shape):
    policy, corrector, reward_model = clients.values()
    query = prompt.query
    first = policy.ask(answer_context(query, templates))
    answers = [first]
    critiques = []
    for _ in range(shape.num_critiques):
        for _ in range(shape.max_tries):
            critique = corrector.ask(critique_context(query, first, templates))
            if is_critique(critique, templates.rated):
                critiques.append(critique)
                break
    for critique in critiques:
        for _ in range(shape.num_refinements):
            answers.append(corrector.ask(refine_context(query, first, critique, templates)))
    return [reward_model.reward(scored_conversation(query, answer)) for answer in answers]


class Client:
    """Ask one server, one request at a time in each thread, and count tokens."""

    def __init__(self, url, config, flights):
        self._url = url
        self._body = {"model": config.model, **config.sampling}
        self._flights = flights
        self._lock = threading.Lock()
        self.tokens = 0

    def ask(self, conversation):
        said = self._post(
            "v1/chat/completions",
            self._body | {"messages": to_dicts(conversation), "seed": random.getrandbits(31)},
        )
        with self._lock:
            self.tokens += said["usage"]["completion_tokens"]
        return said["choices"][0]["message"]["content"].strip()

    def reward(self, conversation):
        body = {"model": self._body["model"], "messages": to_dicts(conversation)}
        return self._post("classify", body)["data"][0]["probs"][0]

    def _post(self, path, body):
        if not hasattr(_OURS, "session"):
            _OURS.session = requests.Session()
        with self._lock:
            self._flights.change(1)
        try:
            answer = _OURS.session.post(f"{self._url}/{path}", json=body, timeout=600)
            if not answer.ok:
                raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:300]}")
            return answer.json()
        finally:
            with self._lock:
                self._flights.change(-1)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(url, process):
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server at {url} did not start: see the logs beside")
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                break
        except requests.ConnectionError:
            time.sleep(0.5)
    port = int(url.rpartition(":")[2])
    lines = psutil.Process(process.pid).net_connections("tcp")
    if not any(line.laddr.port == port and line.status == psutil.CONN_LISTEN for line in lines):
        raise RuntimeError(f"it is not our server that answers at {url}")


def main():
    """Serve: `python http_threads.py FLAGS.json` (vLLM's command line, flags from a file)."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    from vllm.config import PoolerConfig

    from avr.engines.engine import engine_settings

    config = RoleConfig(**asked["config"])
    settings = engine_settings(config, scores=is_reward_model(asked["role"]))
    settings |= {"model": config.model, "port": asked["port"], "generation_config": "vllm"}
    arguments = ["--disable-uvicorn-access-log", "--host=127.0.0.1"]
    for key, value in settings.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, PoolerConfig):
            arguments.append(f'--{name}={{"use_activation": {json.dumps(value.use_activation)}}}')
        elif isinstance(value, dict):
            arguments.append(f"--{name}={json.dumps(value)}")
        else:
            arguments.append(f"--{name}={value}")
    sys.argv = [sys.argv[0], *arguments]
    from vllm.entrypoints.launchers.api_server.entry import main as serve

    serve()


if __name__ == "__main__":
    main()
