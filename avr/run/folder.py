"""Check which folder may be a run directory, and name what in it is ours to clean up."""

from collections.abc import Iterable

from avr.config.errors import ConfigError
from avr.storage import Location

_TOP = (".lock", "device_hours.json", "ledger", "logs", "parity", "summary.json", "summary.svg")
# A volume brings these along.
_OF_THE_DISK = ("lost+found", ".snapshot")


def own_folders(steps: Iterable[str]) -> list[str]:
    """List the folders of a run directory that its jobs write to."""
    folders = [name for step in steps for name in (step, f"{step}.training")]
    return [*folders, "ledger", "logs", "parity"]


def check_ours(folder: Location, steps: Iterable[str]) -> None:
    """Raise ConfigError for a folder that holds other things and no run.

    It is called before anything is written: `run_dir=.` is a slip.
    """
    there = {place.name for place in folder.iterdir()} if folder.exists() else set()
    entries = [file.name for file in (folder / "ledger").glob("*")] if "ledger" in there else []
    # `in`, because an entry whose writing was cut short still has its temporary, longer name.
    if any(f"{step}.json" in entry for step in steps for entry in entries):
        return
    there -= {*_TOP, *_OF_THE_DISK, *own_folders(steps)}
    # A start that was killed may have left the probe of `check_writable`.
    foreign = sorted(name for name in there if ".writable-" not in name)
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise ConfigError(
            f"run_dir: {folder} holds no run but other files ({shown}); "
            "choose a new or an empty folder"
        )
