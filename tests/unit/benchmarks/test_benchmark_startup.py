"""What the benchmark of starts reads out of logs and adds up."""

from datetime import datetime

import pytest
from startup import CORE_PARTS, PHASES, _spreads, core_parts, phases, rank_seconds, ready_at

ENGINE = "(EngineCore pid=7) INFO 11-25 22:35:{} [core.py:1] {}\n"
SAID = {
    12.5: "Initializing a V1 LLM engine (v0.32.0) with config: model='m'",
    13.0: "Starting to load model m...",
    13.25: "Loading weights took 0.01 seconds",
    15.25: "init engine (profile, create kv cache, warmup model) took 2.0 s",
}
LINES = [(4.0, "Triton is disabled.\n")]
LINES += [(at, ENGINE.format(int(at), words)) for at, words in SAID.items()]
RANK = """rank 0: begins in process 7 on a.node
{'loss': '2.1', 'epoch': '1'} said 5 s after
rank 0: rows ready after 2.5 s
rank 0: model loaded after 12.0 s
rank 0: trained after 20.0 s
rank 0: saved after 20.5 s
"""


def test_parts_of_the_core_end_with_its_log_lines_and_add_up_to_the_phase():
    parts = core_parts(LINES, 2.0, 15.5)
    assert parts == {"imports": 10.5, "device": 0.5, "weights": 0.25, "cache": 2.0, "reply": 0.25}
    marks = [0.0, 0.5, 1.0, 1.5, 2.0, 15.5, 16.0]
    assert sum(parts.values()) == pytest.approx(phases(marks)["core"])


@pytest.mark.parametrize("part", [name for name, words in CORE_PARTS.items() if words])
def test_a_log_without_the_line_that_ends_a_part_is_no_part_of_nought_seconds(part):
    lines = [(at, line) for at, line in LINES if CORE_PARTS[part] not in line]
    with pytest.raises(ValueError, match=f"ends the part '{part}'"):
        core_parts(lines, 2.0, 15.5)


def test_every_phase_has_a_name():
    assert list(phases(range(len(PHASES) + 1))) == list(PHASES)


def test_a_rank_says_how_long_since_it_began_and_each_part_is_the_difference():
    found = rank_seconds(RANK)
    assert found == {"rows ready": 2.5, "model loaded": 9.5, "trained": 8.0, "saved": 0.5}


def test_an_engine_is_ready_when_its_log_last_says_so():
    log = "".join(line for _, line in LINES) + ENGINE.format(59, "init engine (profile) took 1 s")
    ready = datetime.fromtimestamp(ready_at(log + ENGINE.format("00", "something else")))
    assert (ready.year, ready.month, ready.day) == (datetime.now().year, 11, 25)
    assert (ready.hour, ready.minute, ready.second) == (22, 35, 59)


def test_a_kind_of_process_that_a_round_did_not_see_spent_nothing_there():
    found = _spreads([{"ray": 3.0, "tasks": 1.0}, {"ray": 1.0}, {"ray": 2.0, "tasks": 5.0}])
    assert found["ray"] == {"median": 2.0, "range": [1.0, 3.0]}
    assert found["tasks"] == {"median": 1.0, "range": [0.0, 5.0]}
