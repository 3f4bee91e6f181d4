"""What the benchmark of Stage II's search counts by itself."""

import asyncio
from types import SimpleNamespace

import pytest
from arms import search_arms
from arms.search_arms import Landed, Observed, OverHttp, begin, flights, landed, sweep

from avr.core.messages import user
from avr.core.roles import Completion


def test_landed_counts_the_requests_of_one_arm_and_the_mean_of_their_seconds(tmp_path):
    (tmp_path / "policy.1.landed").write_text("10 11 30\n10 13 50\n19 21 70\n")
    (tmp_path / "reward_model.2.landed").write_text("12 12.5 0\n")
    assert landed(tmp_path, 9, 20) == {
        "policy": {"requests": 2, "request_s": 2.0, "tokens": 80},
        "reward_model": {"requests": 1, "request_s": 0.5, "tokens": 0},
    }
    assert landed(tmp_path, 20, 30)["policy"]["tokens"] == 70


def test_flights_are_those_of_the_arm_alone(tmp_path):
    # An arm from 0 s to 8 s with eight in flight, another from 10 s to 20 s with four at most.
    rows = "0 8 0\n8 0 0\n11 2 0\n13 4 0\n15 1 0\n19 0 0\n"
    (tmp_path / "policy.1.flights").write_text(rows)
    (tmp_path / "reward_model.1.flights").write_text("1 3 0\n2 0 0\n")
    assert flights(tmp_path, 10, 20) == {
        "policy_most_in_flight": 4,
        "policy_busy": pytest.approx(0.8),
        "policy_half_full": pytest.approx(0.4),
        "policy_tail_s": 5,
    }


def test_tail_is_never_longer_than_the_arm(tmp_path):
    (tmp_path / "policy.1.flights").write_text(
        "0 9 0\n8 0 0\n12 1 0\n"
    )  # what began has not ended yet
    assert flights(tmp_path, 10, 20)["policy_tail_s"] <= 10


def test_sweep_changes_one_limit_and_leaves_out_what_is_ours():
    limits = {"queries_per_task": 32, "max_queries_in_flight": 128, "cpus_per_task": 0.5}
    assert sweep(limits, [1, 32, 64], []) == {
        "per-task-1": {"queries_per_task": 1},
        "per-task-64": {"queries_per_task": 64},
    }
    # With 32 a task, 16 in flight would be 32.
    assert sweep(limits, [], [16, 64, 128]) == {
        "in-flight-16": {"queries_per_task": 16, "max_queries_in_flight": 16},
        "in-flight-64": {"queries_per_task": 32, "max_queries_in_flight": 64},
    }
    assert sweep(limits, [], []) == {}


class ScriptedEngine:
    """Says which requests came before and after a prefix cache was emptied."""

    identity = "scripted"

    def __init__(self):
        self.said = []
        self._llm = SimpleNamespace(reset_prefix_cache=self._empty)

    async def _empty(self):
        self.said.append("emptying")
        await asyncio.sleep(0.01)
        self.said.append("emptied")

    async def generate(self, conversation, n, seed, sampling=None):
        self.said.append(seed)
        return tuple(Completion("a", "stop", 5) for _ in range(n))

    async def score(self, conversation):
        self.said.append("score")
        return 1.5


def test_the_first_request_of_an_arm_finds_empty_caches_and_all_others_wait(tmp_path):
    begin(tmp_path, "first")
    scripted = ScriptedEngine()
    engine = Observed(scripted, "policy", tmp_path)

    async def arm():
        return await asyncio.gather(
            engine.generate((user("q"),), 2, 1), engine.generate((user("q"),), 1, 2)
        )

    async def both():
        await arm()
        assert scripted.said == ["emptying", "emptied", 1, 2]
        assert await engine.score((user("q"),)) == 1.5
        begin(tmp_path, "second")
        await arm()

    asyncio.run(both())
    assert scripted.said[4:] == ["score", "emptying", "emptied", 1, 2]
    assert engine.identity == "scripted"
    (counted,) = landed(tmp_path, 0, float("inf")).values()
    assert (counted["requests"], counted["tokens"]) == (5, 30)


def test_landed_lines_give_seconds_and_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(search_arms.time, "time", lambda: 12.5)
    Landed(tmp_path / "policy.landed").add(10.0, 7)
    assert landed(tmp_path, 12, 13)["policy"] == {"requests": 1, "request_s": 2.5, "tokens": 7}


def test_over_http_a_thread_asks_once_for_each_sample():
    asked = []
    client = SimpleNamespace(ask=lambda c: asked.append(c) or f"text {len(asked)}")
    samples = asyncio.run(OverHttp(client).generate((user("q"),), 3, 0))
    assert [sample.text for sample in samples] == ["text 1", "text 2", "text 3"]
