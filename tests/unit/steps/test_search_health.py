"""A search is looked at when its pools are, and when it is continued."""

from dataclasses import dataclass, field

import pytest
from scripted import TEMPLATES, critique, response, tree

from avr.config.health import HealthConfig
from avr.core.tree import tree_to_dict
from avr.data.schemas import TREES
from avr.serving.journal import Place, Writer, compact
from avr.steps.health import HealthError, SearchWatch

SICK = [
    tree(response("1 ```\n"), critique("wrong [[4]]", response("no", 1.0)), query=f"q {n}")
    for n in range(9)
]


@dataclass
class FakePools:
    checks: list[str] = field(default_factory=list)
    num_cpus: float = 3.0

    def check(self):
        self.checks.append("checked")
        return ["policy"]


def watch(place):
    return SearchWatch(place, HealthConfig(lost_form=1.0), SICK, TEMPLATES, [].append)


def test_a_search_ends_at_the_check_after_its_first_trees_and_again_when_continued(tmp_path):
    place, pools = Place(tmp_path, "trees", TREES), FakePools()
    watched = watch(place).over(pools)
    assert watched.num_cpus == 3.0
    with Writer(place.journal, "shard") as writer:
        writer.commit(tree_to_dict(SICK[8]))  # none of the first eight
        assert watched.check() == ["policy"]
        assert pools.checks == ["checked"]
        for each in SICK[:8]:
            writer.commit(tree_to_dict(each))
        with pytest.raises(HealthError, match=r"alike: 8 of 8 .*\n.*\n.*\n.*health\.alike=SHARE"):
            watched.check()
    with pytest.raises(HealthError, match="alike: 8 of 8"):
        watch(place)


def test_a_search_whose_journal_has_become_parquet_is_looked_at_too(tmp_path):
    place = Place(tmp_path, "trees", TREES)
    with Writer(place.journal, "shard") as writer:
        for each in SICK:
            writer.commit(tree_to_dict(each))
    compact(place)
    with pytest.raises(HealthError, match="alike: 8 of 8"):
        watch(place)
