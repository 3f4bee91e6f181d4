"""Lines of progress: their pace, and those of trainings."""

import json
import time

from avr.terminal import Pace
from avr.training.progress import Follower, append_event, line_of


def pace(before=0, ready_at=100.0):
    one = Pace(before)
    for second in (0.0, 50.0):
        one.look(False, second)
    for second in (ready_at, ready_at + 30.0):
        one.look(True, second)
    return one


def test_a_pace_counts_from_the_first_engine_that_has_started():
    assert pace().words(30, 570, 160.0) == ", one in 2 s, 19 min left"
    assert pace().words(1200, 1, 101.0) == ", 1,200 a second, 1 s left"
    assert pace().words(600, 0, 160.0) == ", 10 a second"
    assert pace().words(3, 997, 1100.0) == ", one in 333 s, 5539 min left"
    assert pace(before=500).words(530, 470, 160.0) == ", one in 2 s, 16 min left"


def test_of_blocks_that_end_together_the_time_before_counts_too():
    assert pace().words(1024, 9000, 400.0) == ", 3.4 a second, 44 min left"


def test_a_growth_that_hangs_has_ever_more_before_it():
    assert pace().words(30, 570, 1360.0) == ", one in 42 s, 399 min left"


def test_no_pace_is_said_before_anything_is_committed():
    assert pace().words(0, 9, 160.0) == pace(before=100).words(100, 9, 900.0) == ""
    assert Pace(0).words(9, 9, 900.0) == ""


def test_no_pace_is_said_in_the_first_second():
    assert pace().words(1, 499, 100.9) == ""
    assert pace().words(1, 499, 101.0) == ", 1 a second, 9 min left"


def log_event(step, **metrics):
    return {"event": "log", "step": step, "max_steps": 9, "metrics": metrics, "time": 130.0}


def test_progress_line_shows_loss_and_leaves_summaries_out():
    event = log_event(4, loss=2.34567, learning_rate=1e-5, epoch=0.1)
    assert line_of("rsft", event, Pace(0)) == "rsft: step 4/9: loss 2.346 lr 1e-05"
    assert line_of("rsft", log_event(9, train_runtime=3.0), Pace(0)) is None


def test_follower_tells_only_whole_lines_of_this_run(tmp_path):
    path, said = tmp_path / "events.jsonl", []
    append_event(path, log_event(1, loss=9.0))
    with Follower("dpo", (path, tmp_path / "failures.jsonl"), said.append):
        append_event(path, log_event(2, loss=1.0))
        with path.open("a") as file:
            file.write('{"event": "log", "st')
            file.flush()
            file.write('ep": 3, "max_steps": 9, "metrics": {"loss": 0.5}, "time": 1}\n')
        with path.open("a") as file:
            file.write('{"half')
    assert said == ["dpo: step 2/9: loss 1", "dpo: step 3/9: loss 0.5"]


def test_follower_says_the_pace_since_the_training_has_begun(tmp_path):
    path, said = tmp_path / "events.jsonl", []
    begin = {"event": "begin", "max_steps": 9, "num_trained": 10, "num_too_long": 0}
    happened = (
        begin | {"step": 6, "time": 100.0},
        log_event(8, loss=1.0),
        begin | {"step": 7, "time": 129.0},  # again, after a failure
        log_event(8, loss=2.0),
    )
    with Follower("dpo", (path,), said.append), path.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in happened)
    assert said[1::2] == [
        "dpo: step 8/9, one in 15 s, 15 s left: loss 1",
        "dpo: step 8/9, 1 a second, 1 s left: loss 2",
    ]


def test_an_event_has_its_time(tmp_path):
    before = time.time()
    append_event(tmp_path / "events.jsonl", {"event": "checkpoint", "step": 3})
    event = json.loads((tmp_path / "events.jsonl").read_text())
    assert event.items() >= {"event": "checkpoint", "step": 3}.items()
    assert before <= event["time"] <= time.time()


def test_begin_line_says_what_is_left_out_and_where_it_continues():
    begin = {"event": "begin", "step": 6, "max_steps": 9, "num_trained": 10, "num_too_long": 2}
    line = line_of("rsft", begin | {"max_length": 64}, Pace(6))
    assert "2 rows over 64 tokens left out" in line and "continuing after step 6" in line
    begin |= {"max_length": 64, "num_unusable": 1, "unusable": "row r7: why"}
    assert "1 unusable rows left out (row r7: why), cont" in str(line_of("rsft", begin, Pace(6)))
