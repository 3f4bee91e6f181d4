"""When a step has stood still too long: starts have a clock of their own."""

import pytest

from avr.config.roles import LimitsConfig
from avr.hosting.patience import Patience

LIMITS = LimitsConfig(no_progress_timeout_s=10.0, start_timeout_s=100.0)


def test_a_start_of_any_length_below_its_own_limit_is_not_standing_still():
    patience = Patience(LIMITS, 0.0)
    for second in (1.0, 50.0, 99.0):
        patience.look(["corrector"], second)
        assert patience.still_for(second) is patience.without_for(second) is None
    patience.look([], 99.5)
    assert patience.still_for(109.0) is None  # from when each role has an engine
    assert patience.still_for(110.0) == 10.5


def test_a_start_that_takes_too_long_ends_with_the_roles_that_wait():
    patience = Patience(LIMITS, 0.0)
    patience.look(["policy", "corrector"], 1.0)
    patience.advance(60.0)  # what others do does not bring an engine
    patience.look(["corrector"], 100.0)
    assert patience.without_for(100.0) is None
    assert patience.without_for(101.0) == (("corrector",), 101.0)
    assert patience.still_for(101.0) is None


def test_each_role_waits_for_itself():
    patience = Patience(LIMITS, 0.0)
    patience.look([], 0.0)
    patience.look(["policy"], 1.0)
    patience.look(["policy", "corrector"], 60.0)
    patience.look(["corrector"], 61.0)
    assert patience.without_for(130.0) is None
    assert patience.without_for(161.0) == (("corrector",), 101.0)


def test_progress_sets_the_clock_back():
    patience = Patience(LIMITS, 0.0)
    patience.look([], 0.0)
    patience.advance(8.0)
    assert patience.still_for(18.0) is None
    assert patience.still_for(18.5) == 10.5


def test_a_role_that_has_lost_its_engines_waits_for_a_start_again():
    patience = Patience(LIMITS, 0.0)
    patience.look([], 0.0)
    patience.look(["policy"], 9.0)
    assert patience.starting
    assert patience.still_for(80.0) is patience.without_for(80.0) is None
    patience.look(["policy"], 80.0)
    assert patience.without_for(110.0) == (("policy",), 101.0)
    patience.look([], 85.0)
    assert not patience.starting
    assert patience.still_for(95.0) is None


@pytest.mark.parametrize("now", [1.0, 1e6])
def test_nobody_is_said_to_wait_before_anyone_has_looked(now):
    assert Patience(LIMITS, 0.0).without_for(now) is None
