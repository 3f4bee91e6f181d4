"""Fail where two installed packages bring different files of one name: one was overwritten.

    python requirements/one_owner.py [SITE_PACKAGES]

Installers say nothing about it, and what breaks shows only where the lost file is imported. Equal
files (the `__init__.py` of a namespace) harm nobody.
"""

import csv
import sys
import sysconfig
from collections import defaultdict
from importlib.metadata import distributions


def overwritten(folder: str) -> dict[str, list[str]]:
    """Map each file that packages under `folder` brought with different contents to their names.

    Names have versions ("cuda-python 12.6.2"). Contents are told by the hashes in each RECORD.
    """
    brought: dict[str, dict[str, str]] = defaultdict(dict)
    for package in distributions(path=[folder]):
        name = f"{package.name} {package.version}"  # parsed anew each time it is asked for
        for file, content, _ in csv.reader((package.read_text("RECORD") or "").splitlines()):
            brought[file][name] = content
    return {
        file: sorted(packages)
        for file, packages in sorted(brought.items())
        if len(set(packages.values())) > 1
    }


def main() -> int:
    """Name the files; 1 where there are any."""
    folder = sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("purelib")
    files = overwritten(folder)
    for file, packages in list(files.items())[:20]:
        print(f"{file} belongs to {' and '.join(packages)}", file=sys.stderr)
    if files:
        print(
            f"{len(files)} files in {folder} were overwritten: pin other versions", file=sys.stderr
        )
    return 1 if files else 0


if __name__ == "__main__":
    sys.exit(main())
