"""A search is looked at when its pools are, and when it is continued."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
from scripted import TEMPLATES, critique, response, tree

from avr.config.health import HealthConfig
from avr.core.growth import Shape
from avr.core.tree import tree_to_dict
from avr.data.schemas import TREES
from avr.serving.journal import Place, Writer, compact
from avr.steps.ask import pools
from avr.steps.health import HealthError, HealthWatch

SICK = [
    tree(response("1 ```\n"), critique("wrong [[4]]", response("no", 1.0)), query=f"q {n}")
    for n in range(9)
]


def watch(place):
    first = [each.id for each in SICK[:8]]
    config = HealthConfig(lost_form=1.0, same_rating=1.0)
    looking = HealthWatch(place.folder, config, "health", first, TEMPLATES, [].append, Shape())
    parts = [place.folder / "trees", place.folder / "quarantine"]
    return partial(looking.look_at_parts, parts, place.journal)


def test_a_search_ends_at_the_check_after_its_first_trees_and_again_when_continued(tmp_path):
    place = Place(tmp_path, "trees", TREES)
    look = watch(place)
    look()
    with Writer(place.journal, "shard") as writer:
        writer.commit(tree_to_dict(SICK[8]))  # none of the first eight
        look()
        for each in SICK[:8]:
            writer.commit(tree_to_dict(each))
        with pytest.raises(HealthError, match=r"alike: 8 of 8 .*\n.*\n.*\n.*health\.alike=SHARE"):
            look()
    with pytest.raises(HealthError, match="alike: 8 of 8"):
        watch(place)()


def test_a_search_whose_journal_has_become_parquet_is_looked_at_too(tmp_path):
    place = Place(tmp_path, "trees", TREES)
    with Writer(place.journal, "shard") as writer:
        for each in SICK:
            writer.commit(tree_to_dict(each))
    compact(place)
    with pytest.raises(HealthError, match="alike: 8 of 8"):
        watch(place)()


class FakePools(nullcontext):
    def __init__(self, hosted, serving, witness, on_check):
        super().__init__(self)
        self.check = on_check


def test_trees_are_looked_at_and_the_meter_ticks_whenever_pools_are_checked(monkeypatch):
    happened = []
    monkeypatch.setattr("avr.serving.pools.Pools", FakePools)
    meter = SimpleNamespace(tick=lambda: happened.append("ticked"))
    run = SimpleNamespace(hosted=print, placed=nullcontext, meter=meter)
    with pools(run, None, {}, None, None, None, lambda: happened.append("looked")) as up:
        up.check()
    assert happened == ["looked", "ticked"]
