"""What a growth says of its pace."""

from avr.pipeline.pace import Pace


def pace_of(*commits, before=0):
    pace = Pace(before)
    for num_committed, second in commits:
        pace.look(num_committed, second)
    return pace


def test_a_pace_is_that_since_the_first_commit():
    assert pace_of((8, 100.0), (38, 160.0)).words(570) == ", 0.50 a second, 19 min left"
    assert pace_of((8, 0.0), (1208, 1.0)).words(1) == ", 1,200 a second, 1 min left"
    assert pace_of((8, 0.0), (608, 60.0)).words(0) == ", 10 a second, 0 min left"


def test_no_pace_is_said_before_there_are_two_commits():
    assert pace_of().words(9) == pace_of((0, 1.0), (0, 2.0)).words(9) == ""
    assert pace_of((8, 100.0), (8, 200.0)).words(9) == ""
    assert pace_of((100, 1.0), (100, 500.0), before=100).words(9) == ""


def test_looks_between_commits_change_nothing():
    assert pace_of((8, 0.0), (8, 30.0), (38, 60.0), (38, 90.0)).words(30) == (
        ", 0.50 a second, 1 min left"
    )
