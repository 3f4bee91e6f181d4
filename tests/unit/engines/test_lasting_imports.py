"""Imports during which nothing is collected."""

import gc
import sys

import pytest

from avr.engines.imports import lasting_imports, spawning_here


@pytest.fixture
def collecting():
    gc.enable()
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_inside_and_what_is_there_is_left_alone(collecting):
    frozen = gc.get_freeze_count()
    with lasting_imports():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + len(kept)


def test_who_collects_nothing_does_not_begin_to(collecting):
    gc.disable()
    with pytest.raises(ImportError), lasting_imports():
        raise ImportError
    assert not gc.isenabled()


def test_the_main_module_is_itself_again_after_a_start_that_failed():
    before = sys.modules["__main__"].__spec__
    with pytest.raises(RuntimeError), spawning_here():
        assert sys.modules["__main__"].__spec__.name == "avr.engines.imports"
        raise RuntimeError
    assert sys.modules["__main__"].__spec__ is before
