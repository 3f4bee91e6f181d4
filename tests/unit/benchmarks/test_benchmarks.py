"""What benchmarks count by themselves: figures that nobody could check by eye afterwards."""

import asyncio
import json
import random

import pytest
import scaling_charts
from arms.plain_vllm import tokens_in_blocks, unique_prefix_tokens
from collect import collected, ratios_in
from measure import measuring
from measure.measuring import Flights, Timeline, fresh_folder, medians, rates_of, ratios, spread
from models.simulated_engine import SLOTS, STEP_S, TOKENS, SimulatedEngine
from startup import phases

from avr.core.messages import user
from avr.core.ratings import is_critique, parse_rating


def test_unique_prefix_tokens_are_the_distinct_prefixes():
    chance = random.Random(1)
    prompts = [[chance.randrange(3) for _ in range(chance.randrange(1, 9))] for _ in range(60)]
    distinct = {tuple(ids[: n + 1]) for ids in prompts for n in range(len(ids))}
    requests = sorted(({"ids": ids} for ids in prompts), key=lambda request: request["ids"])
    assert unique_prefix_tokens(requests) == len(distinct)


def test_tokens_in_blocks_are_those_that_no_whole_block_before_them_saves():
    def asked(length, n=1, first=0):
        return {"ids": [first, *range(1, length)], "params": {"n": n}}

    assert tokens_in_blocks([asked(10)], 4) == 10
    assert tokens_in_blocks([asked(10), asked(11)], 4) == 10 + 3
    assert tokens_in_blocks([asked(10, n=3)], 4) == 10 + 2 + 2
    assert tokens_in_blocks([asked(8, n=2)], 4) == 8 + 4  # the last token's block is not taken
    assert tokens_in_blocks([asked(10), asked(10, first=9)], 4) == 20
    scored = {"ids": list(range(9)), "params": None}
    assert tokens_in_blocks([scored, scored], 4) == 9 + 1


def test_blocks_of_one_token_save_what_is_shared_but_for_the_last_token():
    chance = random.Random(2)
    prompts = [[chance.randrange(3) for _ in range(chance.randrange(1, 9))] for _ in range(60)]
    requests = [{"ids": ids, "params": None} for ids in sorted(prompts)]
    unique = unique_prefix_tokens(requests)
    assert unique <= tokens_in_blocks(requests, 1) <= unique + len(requests)


@pytest.fixture
def timeline(tmp_path):
    file = tmp_path / "one.flights"
    # Two in flight from 10 s to 14 s, four until 16 s, one until 20 s, none after.
    file.write_text("10 2 0\n14 4 0\n16 1 30\n20 0 9\n")
    return Timeline(file)


def test_share_of_the_time_with_so_many_in_flight(timeline):
    assert timeline.share(10, 20, 1) == 1.0
    assert timeline.share(10, 20, 3) == pytest.approx(0.2)
    assert timeline.share(0, 20, 1) == pytest.approx(0.5)
    assert timeline.share(12, 32, 2) == pytest.approx(0.2)


def test_tail_is_the_time_after_the_last_moment_with_so_many(timeline):
    assert timeline.tail(22, 4) == 6
    assert timeline.tail(22, 1) == 2
    assert timeline.tail(22, 9) == 12


def test_flights_are_written_as_they_change(tmp_path):
    flights = Flights(tmp_path / "f")
    for change, tokens in ((3, 0), (-1, 5), (-2, 7)):
        flights.change(change, tokens)
    numbers = [line.split()[1] for line in (tmp_path / "f").read_text().splitlines()]
    assert numbers == ["3", "2", "0"]
    assert Timeline(tmp_path / "f").tokens == 12


def test_a_benchmark_takes_a_new_folder_and_leaves_what_is_there(tmp_path):
    first, second = fresh_folder(tmp_path / "work"), fresh_folder(tmp_path / "work")
    assert first != second
    assert first.is_dir()
    assert second.is_dir()


def test_ratios_are_taken_round_by_round():
    arms = {
        name: [{"tokens_per_s": rate, "cpu_s": {"driver": rate}} for rate in rates]
        for name, rates in {"ours": (10, 30), "ideal": (20, 40)}.items()
    }
    assert ratios(arms, "ours") == {"ours / ideal": spread([0.5, 0.75])}
    assert medians(arms)["ours"] == {
        "tokens_per_s": {"median": 20, "range": [10, 30]},
        "cpu_s": {"driver": 20},
    }


def test_simulated_engine_takes_the_time_of_its_slots_and_critiques_are_well_formed():
    slowness = 0.02

    async def measure(samples):
        engine = SimulatedEngine(1, slowness)
        started = asyncio.get_running_loop().time()
        found = await asyncio.gather(
            *(engine.generate((user("q"),), 2, 2 * i) for i in range(samples // 2))
        )
        return asyncio.get_running_loop().time() - started, found

    least, most = (tokens * STEP_S * slowness for tokens in TOKENS)
    once, found = asyncio.run(measure(SLOTS))
    twice, _ = asyncio.run(measure(2 * SLOTS))
    assert once >= least
    assert twice >= 2 * least  # the second half waits for slots
    for completions in found:
        for completion in completions:
            assert TOKENS[0] <= completion.num_tokens <= TOKENS[1]
            assert parse_rating(completion.text.strip()) == 7
            assert is_critique(completion.text.strip())
    assert most > least


def test_phases_of_a_start_add_up_to_all_of_it():
    marks = [10.0, 10.5, 13.0, 19.0, 19.25, 31.0, 31.5]
    found = phases(marks)
    assert sum(found.values()) == pytest.approx(21.5)
    assert found["vllm"] == 6.0
    with pytest.raises(ValueError, match="shorter"):
        phases(marks[:-1])


def test_steady_rate_leaves_out_how_the_first_come_and_the_last_go():
    # Ten blocks of ten: one after 100 s, then one a second, the last a minute late.
    ends = [(100.0 + n, 10) for n in range(9)] + [(168.0, 10)]
    found = rates_of(0.0, ends)
    assert found["steady"] == 10.0
    assert found["trees_per_s"] == round(100 / 168, 3)
    with pytest.raises(ValueError, match="1 blocks are too few"):
        rates_of(0.0, ends[:1])


def test_reports_of_one_machine_become_one_and_of_two_do_not():
    ratio = {"median": 0.9, "range": [0.8, 1.0]}
    reports = {
        "trees": {"machine": {"cpus": 2}, "ratios": {"ours / ideal": ratio}},
        "training": {"machine": {"cpus": 2}, "ratios": {"ours / bare": {"tokens_per_s": ratio}}},
    }
    whole = collected(reports)
    assert whole["machine"] == {"cpus": 2}
    assert whole["reports"]["trees"] == {"ratios": {"ours / ideal": ratio}}
    assert list(ratios_in(whole["reports"]["training"])) == [("ours / bare tokens_per_s", ratio)]
    nested = {"rsft": {"ratios": {"ours / bare": ratio}}, "arms": {"ours": ratio}}
    assert list(ratios_in(nested)) == [("rsft ours / bare", ratio)]
    reports["training"]["machine"] = {"cpus": 4}
    with pytest.raises(ValueError, match="two machines"):
        collected(reports)


def test_scaling_is_drawn_of_all_reports_and_memory_of_the_one_with_most_prompts(
    monkeypatch, tmp_path
):
    def engines(number, of_linear):
        return {
            "engines": number,
            "of_linear": of_linear,
            "rows_per_block": 32,
            "slowness": 2.0,
        }

    def prompts(number, mib):
        more = {"driver_before_mib": 99, "driver_most_mib": mib, "driver_ms_per_tree": 0.5}
        return {"prompts": number, "rows_per_block": 128} | more

    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    scaling_charts.main()
    assert not list(tmp_path.iterdir())
    asked = {"arguments": {"trees_per_engine": 128}}
    few = asked | {"engines": [engines(16, 0.61)], "prompts": [prompts(10, 111)]}
    (tmp_path / "bench.json").write_text(json.dumps({"reports": {"scaling": few}}))
    for name, report in {
        "scaling": {"engines": [engines(1024, 0.74)], "prompts": []},
        "scaling-16-before": {"engines": [engines(16, 0.52)], "prompts": []},
        "scaling-prompts": {"engines": [], "prompts": [prompts(10, 222), prompts(99, 333)]},
        "scaling-16-more": {"engines": [engines(16, 0.68)], "prompts": []}
        | {"arguments": {"trees_per_engine": 256}},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(asked | report))
    scaling_charts.main()
    rates, memory = (
        (tmp_path / f"{name}.svg").read_text() for name in ("scaling", "scaling-prompts")
    )
    words = ("0.61", "0.74", "0.52, before", "0.68, 256 trees each", "1024")
    assert all(f">{word}<" in rates for word in words)
    assert ">222 at most<" in memory and ">333<" in memory and "111" not in memory
