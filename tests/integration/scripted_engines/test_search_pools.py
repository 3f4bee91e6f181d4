"""Greedy search through Serve pools and Ray tasks, with scripted engines and things that die."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ray
import scripted_search
from ray import serve
from scripted_search import plain, search_all, trees_of, undisturbed

from avr.config.roles import QueriesConfig, RoleConfig, ServingConfig
from avr.core.growth import Shape
from avr.data.tables import read_rows
from avr.serving.journal import QueriesError, journalled
from avr.serving.pools import PoolError

pytestmark = pytest.mark.integration
NUM_QUERIES = 40


@pytest.fixture(scope="module", autouse=True)
def cluster(ray_cluster):
    ray.cloudpickle.register_pickle_by_value(scripted_search)
    yield
    serve.shutdown()


def hosts_of(report, role):
    """How many processes hosted an engine of the role."""
    return sum(hosted == role for hosted, _ in report.processes.values())


def alive(pid):
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text().split("State:")[1][:15]
    except OSError:
        return False


def test_searched_trees_equal_those_of_a_search_without_a_cluster_and_pools_are_gone(tmp_path):
    worked, report = search_all(tmp_path, NUM_QUERIES)
    assert (worked.num_done, worked.num_quarantined, worked.num_resumed) == (NUM_QUERIES, 0, 0)
    assert plain(trees_of(tmp_path)) == plain(undisturbed(NUM_QUERIES))
    assert any(len(tree.levels) == scripted_search.MAX_DEPTH for tree in trees_of(tmp_path))
    assert report.advanced["search"] == NUM_QUERIES
    assert not (tmp_path / "journal").exists()
    assert serve.status().applications == {}
    assert len(report.processes) == 2
    assert not any(alive(pid) for _, pid in report.processes)


def test_killed_replica_costs_a_retry_and_no_query(tmp_path):
    killed = []

    def kill_soon(pools, witness):
        def kill():
            while not list(journalled(tmp_path / "journal")):
                time.sleep(0.02)
            processes = ray.get(witness.report.remote()).processes
            (victim,) = [pid for (_, pid), (role, _) in processes.items() if role == "policy"]
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

        threading.Thread(target=kill, daemon=True).start()

    worked, report = search_all(tmp_path, NUM_QUERIES, {"LATENCY": 0.1}, while_running=kill_soon)
    assert killed
    assert hosts_of(report, "policy") == 2
    assert (worked.num_done, worked.num_quarantined) == (NUM_QUERIES, 0)
    assert plain(trees_of(tmp_path)) == plain(undisturbed(NUM_QUERIES))


def test_engine_that_dies_is_replaced_and_named(tmp_path):
    worked, report = search_all(tmp_path / "run", 8, {"DIED": tmp_path / "died"})
    assert worked.engine_deaths == {"policy": 1}
    assert report.causes[0].startswith("policy: ")
    assert plain(trees_of(tmp_path / "run")) == plain(undisturbed(8))


@pytest.mark.long
def test_killed_driver_leaves_no_pools_and_the_next_searches_no_query_twice(tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    asked = folder / "requests.log"
    with log.open("w") as output:
        driver = start_driver(folder, NUM_QUERIES, output)
        wait_until(lambda: len(list(journalled(folder / "journal"))) >= 5, driver, log)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        deadline = time.monotonic() + 60
        while serve.status().applications:  # they notice that the witness is gone
            assert time.monotonic() < deadline, serve.status()
            time.sleep(0.5)
        # Workers outlive their driver for a moment, and what they commit counts too.
        rows = list(journalled(folder / "journal"))
        committed = {row["prompt"]["query"][0]["content"] for row in rows}
        assert 5 <= len(committed) < NUM_QUERIES
        asked.unlink()
        driver = start_driver(folder, NUM_QUERIES, output)
        assert driver.wait(300) == 0, log.read_text()[-3000:]
    assert f"num_resumed={len(committed)}" in log.read_text()
    asked_again = asked.read_text().split("\n")[:-1]
    assert len(asked_again) == NUM_QUERIES - len(committed)
    assert not committed & set(asked_again)
    assert plain(trees_of(folder)) == plain(undisturbed(NUM_QUERIES))


def start_driver(folder, num_queries, output):
    """A job of its own on the cluster of these tests."""
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, scripted_search.__file__, str(folder), str(num_queries)]
    return subprocess.Popen(
        command,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "RAY_ADDRESS": address},
    )


def wait_until(happened, driver, log):
    deadline = time.monotonic() + 300
    while not happened():
        assert driver.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)


def test_query_with_a_fault_is_quarantined_and_no_other_pays(tmp_path):
    worked, _ = search_all(tmp_path, 8, {"SCRIPT": "a fault"})
    assert (worked.num_done, worked.num_quarantined) == (7, 1)
    (row,) = read_rows(tmp_path / "quarantine")
    assert row["quarantined"] == "search: the script sets this one aside"
    assert row["prompt"]["query"][0]["content"] == "question 3"
    again, _ = search_all(tmp_path, 8, {"SCRIPT": "a fault"})
    assert (again.num_done, again.num_quarantined, again.num_resumed) == (7, 1, 8)


def test_refinement_without_a_reward_is_left_out_and_only_first_answers_cost_their_tree(tmp_path):
    worked, _ = search_all(tmp_path, NUM_QUERIES, judging={"SCRIPT": "no reward"})
    trees, wanted = trees_of(tmp_path), undisturbed(NUM_QUERIES, unjudged=True)
    assert plain(trees) == plain(wanted)
    assert 0 < worked.num_quarantined == NUM_QUERIES - len(wanted)
    for row in read_rows(tmp_path / "quarantine"):
        assert row["quarantined"] == "search: the script gives this one no reward"
    levels = [level for tree in trees for level in tree.levels]
    assert sum(level.num_unscored for level in levels) > 0
    reasons = {level.unscored_reason for level in levels if level.num_unscored}
    assert reasons == {"the script gives this one no reward"}


def test_search_from_given_answers_with_their_history_asks_for_no_first_answer(tmp_path):
    history, log = Shape(context="history"), tmp_path / "requests.log"
    search_all(tmp_path, 12, {"REQUESTS": log}, shape=history, given=True)
    trees = trees_of(tmp_path)
    assert plain(trees) == plain(undisturbed(12, history, given=True))
    assert plain(trees) != plain(undisturbed(12, given=True))  # deeper levels differ
    assert {tree.first.text for tree in trees} == {f"given {n}" for n in range(12)}
    assert not log.exists()


def test_error_in_a_worker_ends_the_run_with_its_own_words(tmp_path):
    with pytest.raises(QueriesError, match="the script has a bug"):
        search_all(tmp_path, 8, {"SCRIPT": "a bug"})
    assert serve.status().applications == {}
    worked, _ = search_all(tmp_path, 8)
    assert worked.num_done == 8
    assert plain(trees_of(tmp_path)) == plain(undisturbed(8))


def test_engine_that_does_not_start_ends_the_run_with_its_own_words(tmp_path):
    with pytest.raises(PoolError, match=r"the policy's engine did not start: .*refuses to start"):
        search_all(tmp_path, 4, {"SCRIPT": "does not start"})
    assert serve.status().applications == {}


@pytest.mark.long
def test_engine_that_starts_no_second_time_ends_the_run_with_its_own_words(tmp_path):
    behaviour = {"DIED": tmp_path / "died", "ONCE": tmp_path / "once"}
    with pytest.raises((PoolError, QueriesError), match="the script lets it start once"):
        search_all(tmp_path / "run", 8, behaviour)
    assert serve.status().applications == {}


@pytest.mark.long
def test_dead_replica_comes_back_although_tasks_wait_for_every_cpu(tmp_path):
    queries = QueriesConfig(queries_per_task=1, max_queries_in_flight=64, cpus_per_task=1.0)
    worked, report = search_all(tmp_path / "run", 24, {"DIED": tmp_path / "died"}, queries)
    assert worked.engine_deaths == {"policy": 1}
    assert hosts_of(report, "policy") == 2
    assert plain(trees_of(tmp_path / "run")) == plain(undisturbed(24))


@pytest.mark.long
def test_pool_without_devices_says_what_it_waits_for(tmp_path):
    # Serve itself speaks after 30 s.
    serving = ServingConfig(graceful_shutdown_timeout_s=1)
    policy = RoleConfig(**{**vars(scripted_search.ROLE), "num_cpus": 100})
    words = r"did not start in .*policy: waiting for 100 CPUs, 0 GPUs.*none of its processes has"
    with pytest.raises(PoolError, match=words):
        search_all(tmp_path, 4, serving=serving, policy=policy, start_timeout_s=35)


@pytest.mark.long
def test_pool_grows_under_load_up_to_its_most(tmp_path):
    serving = ServingConfig(target_ongoing_requests=2.0, upscale_delay_s=0.5)
    policy = RoleConfig(**{**vars(scripted_search.ROLE), "max_replicas": 2})
    _, report = search_all(
        tmp_path,
        NUM_QUERIES,
        {"LATENCY": 1.0},
        QueriesConfig(queries_per_task=20, max_queries_in_flight=40),
        serving,
        policy,
    )
    assert hosts_of(report, "policy") == 2
    assert plain(trees_of(tmp_path)) == plain(undisturbed(NUM_QUERIES))


@pytest.mark.long
@pytest.mark.parametrize("queries_per_task", [1, 100])
def test_any_number_of_queries_per_task_gives_the_same_trees(tmp_path, queries_per_task):
    queries = QueriesConfig(queries_per_task=queries_per_task, max_queries_in_flight=10)
    worked, _ = search_all(tmp_path, 12, queries=queries)
    assert worked.num_done == 12
    assert plain(trees_of(tmp_path)) == plain(undisturbed(12))
