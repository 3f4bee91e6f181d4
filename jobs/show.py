"""Print trees, training rows or outputs of a run, to be read.

    python jobs/show.py runs/miniature/grow_rsft/trees             # the first three trees
    python jobs/show.py runs/miniature/pair/rows.parquet --limit 10
    python jobs/show.py runs/miniature/grow_rsft/trees --id ID     # of a tree, a prompt or a node

Starts nothing. PATH is a Parquet file or a folder of them, here or on an object store. Training
rows carry the ids of the tree and the nodes they come from.
"""

import argparse
import os
import sys
from itertools import islice

from avr.data.tables import read_rows
from avr.reports.showing import is_about, shown
from avr.storage import location


def main() -> int:
    """Print the rows; return the exit status, which is 1 where there is nothing to print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path")
    parser.add_argument("--limit", type=int, default=3, help="rows at the most (3)")
    parser.add_argument("--id", help="only rows that have it, or were made from what has it")
    arguments = parser.parse_args()
    if arguments.limit < 1:
        parser.error(f"--limit is {arguments.limit}, must be at least 1")
    try:
        place = location(arguments.path)
        if not place.exists():
            raise FileNotFoundError(f"nothing at {place}")
        if place.is_file() and place.suffix != ".parquet":
            raise ValueError(f"{place} is no Parquet file, nor a folder of them")
        if place.is_dir() and not list(place.glob("*.parquet")):
            files = [file for depth in ("*", "*/*") for file in place.glob(f"{depth}/*.parquet")]
            deeper = sorted({str(file.parent) for file in files})
            there = f"; there are in: {', '.join(deeper)}" if deeper else ""
            raise FileNotFoundError(f"no Parquet files in {place}{there}")
        rows = read_rows(place)
        wanted = (row for row in rows if arguments.id is None or is_about(row, arguments.id))
        texts = [shown(row) for row in islice(wanted, arguments.limit)]
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if not texts:
        found = "no rows" if arguments.id is None else f"no row of {arguments.id}"
        print(f"{found} in {arguments.path}", file=sys.stderr)
        return 1
    try:
        print("\n\n".join(texts), flush=True)
    except BrokenPipeError:
        # A reader such as `head` has ended; Python would print once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
