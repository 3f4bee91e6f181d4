"""Stage I growth whose engines answer from a script: for what happens around engines, not in them.

`python tests/integration/scripted_growth.py FOLDER NUM_TREES LATENCY_S GPUS` is a job that can be
submitted to a cluster; GPUS is how many (scripted) ones an engine takes.
"""

import asyncio
import os
import sys
from contextlib import contextmanager
from dataclasses import replace

from scripted_engine import ROLE, SHAPE, TEMPLATES, Local, ScriptedEngine

from avr.config.roles import GrowthConfig, Placement
from avr.core.growth import correct, respond, score
from avr.core.messages import user
from avr.core.tree import Prompt, plant, tree_to_dict
from avr.data.tables import read_trees
from avr.dataflow.grow import grow
from avr.dataflow.operators import Operator
from avr.hosting.cluster import connect, place
from avr.hosting.host import Hosted
from avr.plan.resources import StepPlan, engines
from avr.storage import is_remote, location, scratch


def planted(num_trees):
    return [plant(Prompt.of((user(f"question {n}"),)), "recipe") for n in range(num_trees)]


def undisturbed(num_trees):
    """The trees that growth without any cluster ends with."""

    async def one(tree):
        local = Local()
        tree = await respond(tree, local, TEMPLATES, SHAPE.max_tries)
        return await score(await correct(tree, local, TEMPLATES, SHAPE), local.alone)

    async def all_of_them():
        return await asyncio.gather(*map(one, planted(num_trees)))

    return sorted(map(tree_to_dict, asyncio.run(all_of_them())), key=lambda tree: tree["id"])


def grown_in(folder):
    return sorted(map(tree_to_dict, read_trees(folder / "trees")), key=lambda tree: tree["id"])


def grow_all(
    folder,
    num_trees,
    latency,
    gpus,
    on_commit=lambda: None,
    script=None,
    placement=Placement.resident,
):
    env = {"LATENCY": str(latency)} | (script or {})
    role = replace(
        ROLE,
        use_gpu=gpus > 0,
        max_rows_per_replica=8,
        max_replicas=2,
        engine={"tensor_parallel_size": gpus},
        env=env,
    )
    steps = {"respond": "policy", "correct": "corrector", "score": "reward_model"}
    operators = [
        Operator(
            step,
            Hosted(step, name, role, 0, folder, max_deaths=1000, make_engine=ScriptedEngine),
            TEMPLATES,
            SHAPE,
        )
        for step, name in steps.items()
    ]
    plan = StepPlan("grow", tuple(engines(name, role, 1) for name in steps.values()), True)

    @contextmanager
    def placed():
        place(plan, 45.0, print)
        yield

    config = GrowthConfig(placement=placement, rows_per_block=4)
    return grow(planted(num_trees), operators, config, folder, placed, on_commit)


def main():
    folder, num_trees, latency, gpus = location(sys.argv[1]), *map(float, sys.argv[2:])
    own = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": 8}
    connect(own, [], (scratch() if is_remote(folder) else folder) / "driver.log")
    print(grow_all(folder, int(num_trees), latency, int(gpus)))


if __name__ == "__main__":
    main()
