"""Verify a growth's output: drop duplicates, count trees, check that none is missing."""

from dataclasses import dataclass

from avr.data.ids import Ids, IdSum
from avr.data.tables import drop_doubles, id_sum_of, ids_of, read_ids, read_rows
from avr.storage import Location


class GrowthError(RuntimeError):
    """Signal that a growth failed; the message carries the worker's cause."""


@dataclass(frozen=True)
class Grown:
    """Hold the counts of a finished growth: trees + quarantined = seedlings.

    `num_resumed` of them were there before it began.
    """

    num_trees: int
    num_quarantined: int
    num_resumed: int
    engine_deaths: dict[str, int]


def settle(folder: Location, out: Location) -> None:
    """Drop trees that were committed twice, from `out` and from the quarantine.

    Work that was given up may have committed after it was counted, and was then done again.
    """
    drop_doubles(out)
    drop_doubles(folder / "quarantine")


def ended(folder: Location) -> Ids:
    """Return the ids of the trees that are grown or quarantined."""
    return ids_of(folder / "trees") | ids_of(folder / "quarantine")


def check_complete(source: Location, folder: Location) -> tuple[int, int]:
    """Check that each seedling in `source` has come out once; count the trees and the quarantined.

    Seedlings must differ from each other, as the prompts of a set do. Raises GrowthError where a
    tree is lost, not asked for or in both folders, and where all were quarantined; ValueError where
    an id is there twice.
    """
    # Sums take no memory. Ids are looked at one by one only where the sums do not add up.
    wanted = id_sum_of(source)
    trees, quarantined = _sums(folder)
    if trees + quarantined != wanted:
        settle(folder, folder / "trees")
        trees, quarantined = _sums(folder)
    if trees + quarantined != wanted:
        _name_what_is_amiss(source, folder)
    if wanted.num_rows and not trees.num_rows:
        first = next(read_rows(folder / "quarantine", ["quarantined"]))["quarantined"]
        raise GrowthError(
            f"all {quarantined.num_rows} trees were quarantined (first: {first}); "
            f"remove {folder / 'quarantine'} to grow them again"
        )
    return trees.num_rows, quarantined.num_rows


def _sums(folder: Location) -> tuple[IdSum, IdSum]:
    return id_sum_of(folder / "trees"), id_sum_of(folder / "quarantine")


def _name_what_is_amiss(source: Location, folder: Location) -> None:
    wanted = read_ids(source)
    trees, quarantined = read_ids(folder / "trees"), read_ids(folder / "quarantine")
    lost = wanted - trees - quarantined
    strange = (trees | quarantined) - wanted
    twice = trees & quarantined
    anew = f"remove {folder / 'quarantine'} and run the job again"
    for problem, ids, advice in (
        ("are lost", lost, "run the job again"),
        ("were not asked for", strange, "choose another run_dir"),
        ("are in both trees/ and quarantine/", twice, anew),
    ):
        if ids:
            raise GrowthError(f"{len(ids)} trees {problem} (first: {min(ids)}); {advice}")
    raise GrowthError(
        "two counts of the trees differ, the second is right (late writers?); run the job again"
    )
