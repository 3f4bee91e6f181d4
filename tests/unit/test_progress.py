"""What growths and trainings say of their pace."""

from avr.pace import Pace


def pace(before=0, ready_at=100.0):
    one = Pace(before)
    for second in (0.0, 50.0):
        one.look(False, second)
    for second in (ready_at, ready_at + 30.0):
        one.look(True, second)
    return one


def test_a_pace_counts_from_the_first_engine_that_has_started():
    assert pace().words(30, 570, 160.0) == ", 0.5 a second, 19 min left"
    assert pace().words(1200, 1, 101.0) == ", 1,200 a second, 1 s left"
    assert pace().words(600, 0, 160.0) == ", 10 a second"
    assert pace().words(3, 997, 1100.0) == ", 0.003 a second, 5539 min left"
    assert pace(before=500).words(530, 470, 160.0) == ", 0.5 a second, 16 min left"


def test_of_blocks_that_end_together_the_time_before_counts_too():
    assert pace().words(1024, 9000, 400.0) == ", 3.4 a second, 44 min left"


def test_a_growth_that_hangs_has_ever_more_before_it():
    assert pace().words(30, 570, 1360.0) == ", 0.024 a second, 399 min left"


def test_no_pace_is_said_before_anything_is_committed():
    assert pace().words(0, 9, 160.0) == pace(before=100).words(100, 9, 900.0) == ""
    assert Pace(0).words(9, 9, 900.0) == ""
