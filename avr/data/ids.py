"""Keep compact id sets: 8 bytes an id, or one checksum to compare two collections."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.int64]


class Ids:
    """Keep 64 bits of each id of a set; `num_rows` is how many ids it was made from.

    Two different ids share their bits once in forty million sets of a million. A set then has fewer
    members than rows, as where an id is there twice; compare the two numbers to be sure. Python's
    hash of a text differs between processes, so a set must stay in its own.
    """

    def __init__(self, ids: Iterable[str] = ()):
        keys = np.frombuffer(array("q", map(hash, ids)), np.int64)
        self.num_rows = len(keys)
        self._keys: Keys
        self._keys, counts = np.unique(keys, return_counts=True)
        self._doubles = self._keys[counts > 1]

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, id_: str) -> bool:
        key = hash(id_)
        place = int(np.searchsorted(self._keys, key))
        return place < len(self._keys) and bool(self._keys[place] == key)

    def __or__(self, other: "Ids") -> "Ids":
        return _made(np.union1d(self._keys, other._keys))

    def __and__(self, other: "Ids") -> "Ids":
        return _made(np.intersect1d(self._keys, other._keys, assume_unique=True))

    @property
    def doubles(self) -> "Ids":
        """Return the ids that are there twice or more (or share their bits with another)."""
        return _made(self._doubles)


@dataclass(frozen=True, slots=True)
class IdSum:
    """Hold a checksum of ids: equal where two collections hold the same ids equally often.

    Other collections have equal sums once in 2**64 times. As with `Ids`, a sum stays in its
    process.
    """

    num_rows: int = 0
    total: int = 0

    @classmethod
    def of(cls, ids: Iterable[str]) -> "IdSum":
        """Sum up ids, which are read once and not kept."""
        num_rows = total = 0
        for id_ in ids:
            num_rows += 1
            total += hash(id_)
        return cls(num_rows, total)

    def __add__(self, other: "IdSum") -> "IdSum":
        return IdSum(self.num_rows + other.num_rows, self.total + other.total)


def _made(keys: Keys) -> Ids:
    ids = Ids()
    ids._keys, ids.num_rows = keys, len(keys)
    return ids
