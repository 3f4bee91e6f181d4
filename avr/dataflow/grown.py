"""What a growth has left in its folder: counted, without doubles, and whether it is all."""

from dataclasses import dataclass

from avr.data.ids import Ids, IdSum
from avr.data.tables import drop_doubles, id_sum_of, ids_of, read_ids, read_rows
from avr.storage import Location


class GrowthError(RuntimeError):
    """Growing trees failed; the message carries the worker's cause."""


@dataclass(frozen=True)
class Grown:
    """What a growth left: trees + quarantined = seedlings. `num_resumed` were there before."""

    num_trees: int
    num_quarantined: int
    num_resumed: int
    engine_deaths: dict[str, int]


def settle(folder: Location, out: Location) -> None:
    """Work that was given up may have committed after it was counted, and was done again."""
    drop_doubles(out)
    drop_doubles(folder / "quarantine")


def ended(folder: Location) -> Ids:
    """The trees that are grown or quarantined."""
    return ids_of(folder / "trees") | ids_of(folder / "quarantine")


def check_complete(source: Location, folder: Location) -> tuple[int, int]:
    """How many trees there are, and how many are quarantined, of the seedlings in `source`.

    Those must differ from each other, as prompts that were read do.
    Raises GrowthError where one is lost, not asked for or in both, and where all were quarantined,
    ValueError where an id is there twice.
    """
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
            f"all {quarantined.num_rows} trees were quarantined; the first: {first}. "
            f"Remove {folder / 'quarantine'} to grow them again."
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
    for problem, ids in (("lost", lost), ("not asked for", strange), ("in both", twice)):
        if ids:
            raise GrowthError(f"{len(ids)} trees {problem}, the first: {min(ids)}")
    raise GrowthError("numbers of rows did not add up, and now do: run the job again")
