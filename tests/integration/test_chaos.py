"""The short version of `make chaos`: a growth and a search under fire, whole at the end."""

import pytest
from chaos import NUM_QUERIES, NUM_TREES, chaos

pytestmark = pytest.mark.integration


def test_what_is_left_after_random_kills_is_what_no_kill_would_have_left(tmp_path):
    report = chaos(num_kills=8, seed=0, folder=tmp_path, kills_per_run=4)
    assert sum(report["kills"].values()) == 8
    assert report["compared"]["trees"] >= NUM_TREES + NUM_QUERIES  # one run of each at least
