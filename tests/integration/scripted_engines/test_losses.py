"""Which errors of Ray mean that something went away; they are Ray's own, so Ray is imported."""

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, RayTaskError

from avr.hosting.losses import is_loss

pytestmark = pytest.mark.integration


def in_a_task(cause):
    return RayTaskError("task", "traceback", cause).as_instanceof_cause()


def test_what_went_away_is_a_loss_and_what_is_at_fault_is_none():
    log = "/tmp/ray/session_1/logs/worker-06f2-01000000-13025.out"
    assert is_loss(NodeDiedError("gone"))
    assert is_loss(in_a_task(ActorDiedError()))
    assert is_loss(in_a_task(FileNotFoundError(2, "No such file or directory", log)))
    assert not is_loss(in_a_task(FileNotFoundError(2, "No such file", "/shared/model/config.json")))
    assert not is_loss(in_a_task(KeyError("a bug")))
    assert not is_loss(None)
