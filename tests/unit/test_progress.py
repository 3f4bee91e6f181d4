"""What a growth says of its pace. Ray is imported inside the test: the module asks its actors."""


def test_a_pace_is_that_of_what_was_committed():
    from avr.pipeline.progress import pace

    assert pace(30, 570, 60.0) == ", 0.5 a second, 19 min left"
    assert pace(1200, 1, 60.0) == ", 20 a second, 1 min left"
    assert pace(600, 0, 60.0) == ", 10 a second, 0 min left"
    assert pace(0, 600, 60.0) == pace(10, 600, 0.0) == ""
