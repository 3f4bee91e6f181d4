"""Watch the first trees of a search, which is checked while its pools are."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from avr.config.health import HealthConfig
from avr.core.prompts import Templates
from avr.core.tree import RefinementTree
from avr.dataflow.health import HealthWatch
from avr.serving.journal import Place
from avr.serving.queries import EnginePools


class SearchWatch:
    """A `HealthWatch` of a search, whose trees are in a journal first and in Parquet at the end.

    It has looked when it is made. Raises HealthError, there too.
    """

    def __init__(
        self,
        place: Place,
        config: HealthConfig,
        planted: Iterable[RefinementTree],
        templates: Templates,
        say: Callable[[str], None],
    ):
        first = (tree.id for tree in islice(planted, config.num_trees))
        self._watch = HealthWatch(place.folder, config, "health", first, templates, say)
        self._place = place
        self.look()

    def look(self) -> None:
        """Look for the first trees where they are committed, and judge them if all are there."""
        folder = self._place.folder
        self._watch.look_at_parts([folder / self._place.out, folder / "quarantine"])
        self._watch.look_at_journal(self._place.journal)

    def over(self, pools: EnginePools) -> EnginePools:
        """Give the pools, whose every check looks at the trees as well."""
        return _WatchedPools(pools, self.look)


@dataclass(frozen=True)
class _WatchedPools:
    pools: EnginePools
    look: Callable[[], None]

    @property
    def num_cpus(self) -> float:
        return self.pools.num_cpus

    def check(self) -> list[str]:
        self.look()
        return self.pools.check()
