"""Replicas into nodes: what has no place is named, with what it lacks."""

import pytest
from configured import needs
from hypothesis import given
from hypothesis import strategies as st

from avr.config.load import load
from avr.config.roles import GrowthConfig, RoleConfig
from avr.plan.fit import NodeType, misfit, misfits
from avr.plan.resources import Pool, StepPlan, rows_per_block
from avr.recipes.stage1 import Stage1Config

LLAMA = "conf/llama3_8b/stage1.yaml"


def step(*pools, together=True, reserve=0.0, waves=False):
    return StepPlan("grow", pools, together, reserve, waves)


def pool(name, replicas, cpus, gpus):
    return Pool(name, "model", replicas, replicas + 3, cpus, gpus)


def test_gpus_of_one_engine_must_be_on_one_node():
    corrector = step(pool("corrector", 1, 1, 2))
    assert misfit(corrector, [NodeType("small", 8, 16, 1)]) == (
        "step grow cannot be placed: corrector needs 2 GPUs and 1 CPU on one node, "
        "but the largest node has 1 GPU and 16 CPUs (small)"
    )
    assert misfit(corrector, [NodeType("small", 8, 16, 1), NodeType("large", 1, 2, 2)]) is None


def test_cpus_count_beside_the_gpus_of_the_same_node():
    wide = step(pool("policy", 1, 8, 1))
    nodes = [NodeType("cpu", 4, 64), NodeType("gpu", 4, 4, 1)]
    assert "policy needs 1 GPU and 8 CPUs on one node" in misfit(wide, nodes)


def test_a_share_is_one_of_one_gpu():
    three = step(pool("policy", 3, 1, 0.6))
    assert "only 2 fit" in misfit(three, [NodeType("pair", 1, 8, 2)])
    assert misfit(three, [NodeType("three", 1, 8, 3)]) is None
    beside = step(pool("policy", 2, 1, 0.5), pool("corrector", 1, 1, 1))
    assert misfit(beside, [NodeType("pair", 1, 8, 2)]) is None
    assert "corrector needs 1 GPU" in misfit(
        step(pool("policy", 1, 1, 0), pool("corrector", 1, 1, 1)), [NodeType("rest", 1, 8, 0.9)]
    )


def test_what_fits_alone_may_not_fit_beside_the_others():
    both = step(pool("policy", 2, 1, 1), pool("corrector", 1, 1, 2))
    assert misfit(both, [NodeType("node", 1, 8, 4)]) is None
    words = misfit(both, [NodeType("node", 1, 8, 3)])
    assert "policy needs 1 GPU and 1 CPU on one node, 2 times, but only 1 fit" in words
    assert "corrector" not in words


def test_large_replicas_are_placed_before_small_ones_scatter_over_their_nodes():
    both = step(pool("policy", 2, 1, 1), pool("corrector", 1, 1, 2))
    assert misfit(both, [NodeType("pair", 2, 4, 2)]) is None


def test_replicas_take_the_smallest_node_that_holds_them():
    parts = step(pool("policy", 1, 8, 1), pool("tasks", 1, 10, 0))
    small, large = NodeType("small", 1, 8, 1), NodeType("large", 1, 16, 1)
    assert misfit(parts, [large, small]) is misfit(parts, [small, large]) is None


def test_pools_in_waves_are_placed_one_after_the_other():
    pools = pool("policy", 2, 1, 1), pool("corrector", 1, 1, 2)
    node = [NodeType("node", 1, 8, 2)]
    resident = misfit(step(*pools, waves=True), node)
    assert resident.endswith("growth.placement=waves runs the pools one after the other")
    assert misfit(step(*pools, together=False), node) is None
    hopeless = misfit(step(*pools, waves=True), [NodeType("node", 4, 8, 1)])
    assert "corrector" in hopeless and "waves" not in hopeless


def test_what_works_between_pools_needs_its_cpus_too():
    tight = step(pool("policy", 1, 2, 0), reserve=1.0)
    assert misfit(tight, [NodeType("laptop", 1, 3)]) is None
    assert "Ray tasks needs 1 CPU" in misfit(tight, [NodeType("laptop", 1, 2)])


def test_a_cluster_without_nodes_is_said_to_be_one():
    assert "the cluster has no" in misfit(step(pool("policy", 1, 1, 0)), [NodeType("cpu", 0, 8)])


def test_the_large_recipe_fits_one_node_of_8_gpus_or_two_of_4_but_no_single_gpus():
    plan = needs(load(Stage1Config, LLAMA))
    assert misfits(plan, [NodeType("node", 1, 96, 8)]) == []
    assert misfits(plan, [NodeType("half", 2, 48, 4)]) == []
    single = misfits(plan, [NodeType("single", 8, 12, 1)])
    assert [words.split()[1] for words in single] == ["grow_rsft", "grow_dpo"]
    assert "corrector needs 2 GPUs" in single[0] and "reward_model needs 2 GPUs" in single[0]
    few = misfits(plan, [NodeType("node", 1, 96, 4)])
    assert [words.split()[1] for words in few] == ["grow_rsft", "rsft", "dpo"]
    assert "training worker needs 1 GPU and 4 CPUs on one node, 8 times" in few[1]


SIZES = st.tuples(st.integers(1, 4), st.integers(0, 8), st.integers(0, 4))


@given(st.lists(SIZES, min_size=1, max_size=4), st.lists(SIZES, max_size=4))
def test_what_can_be_placed_is_never_short_in_sum(pools, nodes):
    plan = step(*(pool(f"p{i}", *size) for i, size in enumerate(pools)), reserve=1.0)
    types = [NodeType(f"n{i}", *size) for i, size in enumerate(nodes)]
    cpus = sum(node.count * node.cpus for node in types)
    gpus = sum(node.count * node.gpus for node in types)
    if misfit(plan, types) is None:
        assert all(need <= have for need, have in zip(plan.least(), (cpus, gpus), strict=True))
    elif len(types) == 1 and types[0].count == 1:
        assert any(need > have for need, have in zip(plan.least(), (cpus, gpus), strict=True))


@given(st.integers(1, 6), st.sampled_from([0.25, 0.3, 0.5, 0.6, 0.75]), st.integers(0, 4))
def test_shares_fill_gpu_by_gpu(replicas, share, gpus):
    each = int(1 / share + 1e-9)
    fits = misfit(step(pool("p", replicas, 0, share)), [NodeType("n", 1, 1, gpus)]) is None
    assert fits == (replicas <= each * gpus)


@pytest.mark.parametrize(
    ("replicas", "most", "rows"),
    [
        (1, 128, 8),
        (21, 128, 8),
        (64, 128, 24),
        (256, 128, 64),
        (256, 1024, 96),
        (1, 8, 4),
        (1, 1, 1),
    ],
)
def test_blocks_grow_with_the_engines_and_two_of_them_fit_into_one(replicas, most, rows):
    pool = RoleConfig(max_replicas=replicas, max_rows_per_replica=most)
    assert rows_per_block(GrowthConfig(), [pool] * 3) == rows
    assert rows_per_block(GrowthConfig(rows_per_block=5), [pool] * 3) == 5
