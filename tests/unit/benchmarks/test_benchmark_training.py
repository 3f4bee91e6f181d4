"""What the training benchmark counts by itself: rates, differences, and the rows it makes."""

import os
import random
from itertools import islice
from types import SimpleNamespace

import pyarrow as pa
import pytest
from arms.bare_trl import (
    COMPARED,
    deepspeed_of,
    difference,
    marks_of,
    memory_mib,
    over,
    packed_batch,
    process_of,
    rates,
    ratios,
    values_of,
)
from measure.measuring import padding
from models.training_rows import ANSWER, chats, conversations, drawn, pairs

from avr.data import schemas

LOG = """rank 1: begins in process 4711 on a node
rank 1: rows ready after 20.0 s
rank 1: model loaded after 22.5 s
rank 1: trained after 40.0 s
rank 1: saved after 41.0 s
"""
MARKS = {"rows ready": 20.0, "model loaded": 22.5, "trained": 40.0}


def entry(step, wall_time, value):
    return SimpleNamespace(step=step, wall_time=wall_time, value=value)


def logged(summary=0):
    """1,000 tokens a step: ten seconds for the first two steps together, then one a step."""
    tokens = [entry(step, 98.0 + step, 1000 * step) for step in (2, 4, 6, 8)]
    last = [entry(9, 200.0, 9000)] * summary
    return {"loss": [entry(t.step, t.wall_time, 2.0) for t in tokens], "num_tokens": tokens + last}


def test_marks_are_read_from_a_rank_log():
    assert marks_of(LOG) == MARKS


def test_process_of_a_rank_is_that_of_its_last_start(tmp_path):
    log = tmp_path / "rank-1.log"
    log.write_text("")
    with pytest.raises(OSError, match="does not say yet"):
        process_of(log)
    log.write_text(LOG + LOG.replace("4711", "4712"))
    assert process_of(log) == 4712


def test_steady_rate_leaves_out_the_first_steps():
    found = rates(logged(), MARKS, skip=3)
    assert found["tokens_per_s"] == 1000
    assert found["tokens"] == 8000 and found["steps"] == 8
    slow_start = logged()
    slow_start["num_tokens"][0].wall_time -= 8
    assert rates(slow_start, MARKS, skip=3)["tokens_per_s"] == 1000
    assert rates(slow_start, MARKS, skip=1)["tokens_per_s"] == pytest.approx(6000 / 14)


def test_rate_with_setup_runs_from_the_ranks_start_and_counts_what_the_summary_adds():
    assert rates(logged(), MARKS, skip=3)["with_setup_per_s"] == 8000 / MARKS["trained"]
    found = rates(logged(summary=1), MARKS, skip=3)
    assert found["tokens"] == 9000 and found["with_setup_per_s"] == 9000 / MARKS["trained"]
    assert found["tokens_per_s"] == 1000  # the summary comes after the last checkpoint
    assert found["setup_s"] == 2.5 and found["stepping_per_s"] == 9000 / 17.5


def test_too_few_steps_are_no_rate():
    with pytest.raises(ValueError, match="too few rows"):
        rates(logged(), MARKS, skip=7)


def test_difference_is_the_largest_at_equal_steps():
    one, other = values_of(logged()), values_of(logged())
    assert difference(one, other) == {"loss": 0, "num_tokens": 0}
    other["loss"][4] = 1.5
    other["loss"][8] = 2.75
    assert difference(one, other)["loss"] == 0.75
    assert difference(other, one)["loss"] == 0.75


@pytest.mark.parametrize("spoil", ["steps", "tokens"])
def test_other_steps_or_tokens_are_not_the_same_work(spoil):
    one, other = values_of(logged()), values_of(logged())
    if spoil == "steps":
        del other["loss"][2]
    else:
        other["num_tokens"][2] += 1
    with pytest.raises(ValueError, match=spoil):
        difference(one, other)


def test_packed_sequences_hold_as_many_tokens_as_the_batch():
    assert packed_batch(8, 145, 512) == 2
    assert packed_batch(8, 256, 512) == 4
    assert packed_batch(1, 100, 8192) == 1


def test_a_process_s_memory_is_what_it_has_and_the_most_it_had():
    before = memory_mib(os.getpid())[1]
    taken = bytearray(b"1" * 300 * 2**20)
    with_it = memory_mib(os.getpid())
    del taken
    most, now = memory_mib(os.getpid())
    assert with_it[1] >= before + 290
    assert most >= with_it[1] > now


def test_padding_is_what_a_batch_is_filled_up_with():
    assert padding([7] * 20) == 0
    assert padding([2, 4], batch=2) == 0.25
    assert padding([2, 4, 100], batch=1) == 0


def test_ratios_pair_the_rounds_and_name_both_arms():
    def arm(*rates_of_rounds):
        return [dict.fromkeys(COMPARED, rate) for rate in rates_of_rounds]

    arms = {
        "dpo ours": arm(10, 30),
        "dpo bare": arm(20, 30),
        "dpo naive": arm(5, 10),
        "dpo precomputed": arm(20, 20),
    }
    found = ratios(arms)
    assert set(found) == {
        "dpo ours / bare",
        "dpo ours / naive",
        "dpo precomputed / naive",
        "dpo precomputed / ours",
    }
    assert found["dpo ours / bare"]["tokens_per_s"] == {"median": 0.75, "range": [0.5, 1.0]}
    assert found["dpo precomputed / naive"]["seconds"] == {"median": 3.0, "range": [2.0, 4.0]}


def test_one_arm_over_another_pairs_the_rounds():
    zero3 = [{"peak_mib_most": 600, "peak_mib_sum": 1000}]
    plain = [{"peak_mib_most": 800, "peak_mib_sum": 1600}]
    found = over(zero3, plain, ("peak_mib_most", "peak_mib_sum"))
    assert found["peak_mib_most"]["median"] == 0.75
    assert found["peak_mib_sum"]["median"] == 0.625
    with pytest.raises(ValueError):
        over(zero3, plain * 2, ("peak_mib_sum",))


def test_memory_arms_differ_in_their_deepspeed_settings_only(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"0" * 32_000)  # 8,000 parameters, a millionth of 8B
    recipe = {"zero_optimization": {"stage": 3, "overlap_comm": True}, "gradient_clipping": "auto"}
    assert deepspeed_of("plain", recipe, weights) == {}
    assert deepspeed_of("zero3", recipe, weights) == recipe
    small = deepspeed_of("in_proportion", recipe, weights)
    assert small["gradient_clipping"] == "auto" and small["zero_optimization"]["stage"] == 3
    assert small["zero_optimization"]["reduce_bucket_size"] == 500
    assert small["zero_optimization"]["stage3_max_live_parameters"] == 1000
    assert recipe["zero_optimization"] == {"stage": 3, "overlap_comm": True}


@pytest.mark.parametrize("like", ["stage1", "stage2", "chat"])
def test_rsft_rows_have_the_schema_and_are_the_same_every_time(like):
    rows = list(islice(conversations(like), 30))
    assert rows == list(islice(conversations(like), 30))
    assert pa.Table.from_pylist(rows, schemas.RSFT_ROWS).num_rows == 30
    assert set(rows[0]) == set(schemas.RSFT_ROWS.names)
    assert all(row["messages"][-1]["role"] == "assistant" for row in rows)
    assert len({row["id"] for row in rows}) == 30


@pytest.mark.parametrize("like", ["stage1", "chat"])
def test_pairs_have_the_schema_and_two_sides_and_all_kinds(like):
    rows = list(islice(pairs(like), 60))
    assert rows == list(islice(pairs(like), 60))
    assert set(rows[0]) | {"margin"} == set(schemas.PAIRS.names)
    assert {row["kind"] for row in rows} == {"generation", "critique", "refinement"}
    turns = {"generation": 1, "critique": 3, "refinement": 5}
    for row in rows:
        assert row["chosen"] != row["rejected"]
        assert len(row["prompt"]) == turns[row["kind"]]
        assert row["prompt"][-1]["role"] == "user"


def test_lengths_are_drawn_from_their_deciles():
    rng = random.Random(0)
    found = sorted(drawn(ANSWER, rng) for _ in range(20_000))
    assert ANSWER[0] <= found[0] and found[-1] <= ANSWER[-1]
    for tenth in range(1, 10):
        assert found[2000 * tenth] == pytest.approx(ANSWER[tenth], abs=12)


def test_half_of_chats_by_sixteens_is_padding():
    lengths = [
        sum(len(message["content"].split()) for message in row["messages"])
        for row in islice(chats(), 4096)
    ]
    assert padding(lengths, batch=16) == pytest.approx(0.48, abs=0.01)
    assert padding(lengths, batch=8) == pytest.approx(0.40, abs=0.02)
    assert padding(lengths, batch=2) == pytest.approx(0.20, abs=0.01)
