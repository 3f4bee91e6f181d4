"""Programs run in the best isolation that works, in a lesser one only if it is named, or not."""

import pytest

from avr.config.sandbox import Isolation, SandboxConfig
from avr.sandbox import isolation
from avr.sandbox.job import SandboxError


@pytest.fixture
def machine(monkeypatch):
    """Make a machine on which some isolations do not work: name -> reason."""

    def made(**reasons):
        monkeypatch.setattr(isolation, "available", lambda each: reasons.get(each.value, ""))

    return made


@pytest.mark.parametrize(
    "reasons, best",
    [({}, "bubblewrap"), ({"bubblewrap": "not installed"}, "namespaces")],
)
def test_the_best_that_works_is_taken_and_has_a_name(machine, reasons, best):
    machine(**reasons)
    assert isolation.resolve(SandboxConfig(cpu_s=2)) == SandboxConfig(Isolation(best), cpu_s=2)


def test_without_isolation_nothing_runs_and_the_error_says_what_helps(machine):
    machine(bubblewrap="not installed", namespaces="not permitted")
    with pytest.raises(SandboxError) as error:
        isolation.resolve(SandboxConfig())
    for words in ("bubblewrap: not installed", "namespaces: not permitted", "Debian"):
        assert words in str(error.value)
    assert "sandbox.isolation=process" in str(error.value)


def test_less_is_taken_where_it_is_named(machine):
    machine(bubblewrap="not installed", namespaces="not permitted")
    config = SandboxConfig(Isolation.process)
    assert isolation.resolve(config) == config


def test_a_named_isolation_that_does_not_work_is_not_replaced(machine):
    machine(bubblewrap="not installed")
    with pytest.raises(SandboxError, match="bubblewrap: not installed"):
        isolation.resolve(SandboxConfig(Isolation.bubblewrap))


def test_limits_alone_work_on_any_machine():
    assert isolation.available(Isolation.process) == ""


def test_bubblewrap_that_is_not_there_is_named_with_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    isolation.available.cache_clear()
    assert "package bubblewrap" in isolation.available(Isolation.bubblewrap)
    isolation.available.cache_clear()
