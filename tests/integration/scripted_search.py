"""A search whose engines answer from a script: for what happens around engines, not in them.

`python tests/integration/scripted_search.py FOLDER NUM_QUERIES` is a driver that a test can kill.
"""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import ray

from avr.config import RoleConfig
from avr.config_stage2 import QueriesConfig, ServingConfig
from avr.core.growth import Shape
from avr.core.messages import content_id, to_dicts, user
from avr.core.prompts import Templates
from avr.core.roles import Completion, EngineDied, TreeFault
from avr.core.search import search
from avr.core.tree import Prompt, plant, tree_to_dict
from avr.pipeline.hosting import Hosted
from avr.pipeline.journal import Place
from avr.pipeline.pools import Pools
from avr.pipeline.queries import run_queries
from avr.pipeline.tables import TREES, read_trees
from avr.pipeline.witness import witness_beside_driver
from avr.pipeline.works import Search, tree_query

TEMPLATES = Templates(critique_request="CRITIQUE?", refine_request="REFINE?")
SHAPE = Shape()
MAX_DEPTH = 3
ROLE = RoleConfig(model="scripted", use_gpu=False, num_cpus=0.5, sampling={})


class ScriptedEngine:
    """Texts and rewards are hashes of what is asked; `requests.log` tells what was asked for y0."""

    def __init__(self, role, config, seed):
        self.role = role
        self._behaviour = config.env
        if self._behaviour.get("SCRIPT") == "does not start":
            raise ValueError("the scripted engine refuses to start")
        once = self._behaviour.get("ONCE")
        if once and Path(once).exists():
            raise ValueError("the script lets it start once")
        if once:
            Path(once).touch()

    async def generate(self, conversation, n, seed, sampling=None):
        await asyncio.sleep(float(self._behaviour.get("LATENCY", "0.02")))
        last = conversation[-1].content
        self._misbehave(last)
        if last not in ("CRITIQUE?", "REFINE?") and "REQUESTS" in self._behaviour:
            with Path(self._behaviour["REQUESTS"]).open("a") as log:
                log.write(last + "\n")
        return tuple(Completion(*_scripted(conversation, seed + i)) for i in range(n))

    def _misbehave(self, last):
        if self._behaviour.get("SCRIPT") == "a fault" and last == "question 3":
            raise TreeFault("the script sets this one aside")
        if self._behaviour.get("SCRIPT") == "a bug" and last == "question 3":
            raise KeyError("the script has a bug")
        died = self._behaviour.get("DIED")
        if died and last == "question 3" and not Path(died).exists():
            Path(died).touch()
            raise EngineDied("the script ends the engine once")

    async def score(self, conversation):
        await asyncio.sleep(0.002)
        return int(content_id(conversation[-1].content)[:6], 16) / 1e6

    @asynccontextmanager
    async def serving(self, model):
        yield self

    def identity_of(self, model, sampling):
        return f"{model} {sampling}"

    async def check_health(self):
        pass

    def shutdown(self):
        pass


class Local:
    """The same script without a cluster."""

    identity = "scripted None"

    async def generate(self, conversation, n, seed):
        return tuple(Completion(*_scripted(conversation, seed + i)) for i in range(n))

    async def score(self, conversation):
        return int(content_id(conversation[-1].content)[:6], 16) / 1e6


def _scripted(conversation, seed):
    mark = content_id(to_dicts(conversation), seed)
    if conversation[-1].content == "CRITIQUE?":
        return f"critique {mark} [[{int(mark[:4], 16) % 10 + 1}]]", "stop", 3
    return f"answer {mark}", "stop", 2


def planted(num_queries):
    return [plant(Prompt.of((user(f"question {n}"),)), "recipe") for n in range(num_queries)]


def undisturbed(num_queries):
    """The trees that a search without any cluster ends with."""

    async def all_of_them():
        local = Local()
        searches = (
            search(tree, local, local, TEMPLATES, SHAPE, MAX_DEPTH) for tree in planted(num_queries)
        )
        return await asyncio.gather(*searches)

    return sorted(asyncio.run(all_of_them()), key=lambda tree: tree.id)


def search_all(
    folder,
    num_queries,
    behaviour=None,
    queries=None,
    serving=None,
    policy=ROLE,
    while_running=lambda pools, witness: None,
):
    """The queries through real Serve pools and real Ray tasks; returns (worked, report)."""
    env = {key: str(value) for key, value in (behaviour or {}).items()}
    roles = {"policy": RoleConfig(**{**vars(policy), "env": env}), "reward_model": ROLE}
    hosted = [
        Hosted(name, name, config, seed=0, folder=folder, max_deaths=3, make_engine=ScriptedEngine)
        for name, config in roles.items()
    ]
    witness = witness_beside_driver()
    serving = serving or ServingConfig(health_check_period_s=1.0)
    with Pools(hosted, serving, witness) as pools:
        work = Search(pools.generate("policy"), pools.score(), TEMPLATES, SHAPE, MAX_DEPTH)
        while_running(pools, witness)
        worked = run_queries(
            map(tree_query, planted(num_queries)),
            work,
            pools,
            queries or QueriesConfig(queries_per_task=8, max_queries_in_flight=16),
            Place(folder, "trees", TREES),
            "search",
            witness,
        )
    return worked, ray.get(witness.report.remote())


def trees_of(folder):
    return list(read_trees(folder / "trees"))


def plain(trees):
    return [tree_to_dict(tree) for tree in trees]


def main():
    folder, num_queries = Path(sys.argv[1]), int(sys.argv[2])
    ray.cloudpickle.register_pickle_by_value(sys.modules["__main__"])
    root = str(Path(__file__).parents[2])
    here = {"PYTHONPATH": f"{root}:{Path(__file__).parent}"}
    ray.init(log_to_driver=False, runtime_env={"env_vars": here})  # RAY_ADDRESS says where
    behaviour = {"LATENCY": 0.2, "REQUESTS": folder / "requests.log"}
    folder.mkdir(parents=True, exist_ok=True)
    worked, _ = search_all(folder, num_queries, behaviour)
    print(worked)


if __name__ == "__main__":
    main()
