"""A search whose engines answer from a script: for what happens around engines, not in them.

`python tests/integration/scripted_search.py FOLDER NUM_QUERIES` is a driver that a test can kill.
"""

import asyncio
import os
import sys
from pathlib import Path

import ray
from scripted_engine import ROLE, SHAPE, TEMPLATES, Local, ScriptedEngine

from avr.config.roles import QueriesConfig, RoleConfig, ServingConfig
from avr.core.growth import take_answer
from avr.core.messages import user
from avr.core.reward import Rewarding
from avr.core.roles import TreeFault
from avr.core.search import search
from avr.core.tree import Prompt, RefinementTree, plant, tree_to_dict
from avr.data.schemas import TREES
from avr.data.tables import read_trees
from avr.hosting.host import Hosted
from avr.hosting.witness import witness_beside_driver
from avr.serving.journal import Place
from avr.serving.pools import Pools
from avr.serving.queries import run_queries
from avr.serving.works import SearchTree, tree_query
from avr.storage import is_remote, location

MAX_DEPTH = 3


def planted(num_queries, given=False):
    """Trees with nothing grown yet; `given`: but the answers that came with their prompts."""
    trees = [
        plant(Prompt.of((user(f"question {n}"),), f"given {n}"), "recipe")
        for n in range(num_queries)
    ]
    return [take_answer(tree) for tree in trees] if given else trees


def undisturbed(num_queries, shape=SHAPE, given=False, unjudged=False):
    """The trees that a search without any cluster ends with; those with a fault are not there."""

    async def all_of_them():
        local = Local(unjudged)
        searches = (
            search(tree, local, local.alone, TEMPLATES, shape, MAX_DEPTH)
            for tree in planted(num_queries, given)
        )
        return await asyncio.gather(*searches, return_exceptions=True)

    ended = asyncio.run(all_of_them())
    assert all(isinstance(one, RefinementTree | TreeFault) for one in ended)
    trees = [one for one in ended if isinstance(one, RefinementTree)]
    return sorted(trees, key=lambda tree: tree.id)


def search_all(
    folder,
    num_queries,
    behaviour=None,
    queries=None,
    serving=None,
    policy=ROLE,
    max_deaths=3,
    start_timeout_s=300.0,
    make_engine=ScriptedEngine,
    while_running=lambda pools, witness: None,
    shape=SHAPE,
    given=False,
    judging=None,
):
    """The queries through real Serve pools and real Ray tasks; returns (worked, report).

    `behaviour` is the policy's, `judging` the reward model's.
    """
    env = {key: str(value) for key, value in (behaviour or {}).items()}
    roles = {
        "policy": RoleConfig(**{**vars(policy), "env": env}),
        "reward_model": RoleConfig(**{**vars(ROLE), "env": judging or {}}),
    }
    hosted = [
        Hosted(
            name,
            name,
            config,
            seed=0,
            folder=folder,
            max_deaths=max_deaths,
            make_engine=make_engine,
            start_timeout_s=start_timeout_s,
        )
        for name, config in roles.items()
    ]
    witness = witness_beside_driver()
    serving = serving or ServingConfig(health_check_period_s=1.0)
    with Pools(hosted, serving, witness) as pools:
        policy, rewarding = pools.generate("policy"), Rewarding.by(pools.score())
        work = SearchTree(policy, rewarding, TEMPLATES, shape, MAX_DEPTH)
        while_running(pools, witness)
        worked = run_queries(
            map(tree_query, planted(num_queries, given)),
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
    folder, num_queries = location(sys.argv[1]), int(sys.argv[2])
    ray.cloudpickle.register_pickle_by_value(sys.modules["__main__"])
    root = str(Path(__file__).parents[2])
    here = {"PYTHONPATH": f"{root}:{Path(__file__).parent}"}
    address = os.environ.get("RAY_ADDRESS", "local")
    own = {"num_cpus": 8, "include_dashboard": False} if address == "local" else {}
    ray.init(address, log_to_driver=False, runtime_env={"env_vars": here}, **own)
    behaviour = {"LATENCY": 0.2}
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
        behaviour["REQUESTS"] = folder / "requests.log"
    worked, _ = search_all(folder, num_queries, behaviour, max_deaths=1000)
    print(worked)


if __name__ == "__main__":
    main()
