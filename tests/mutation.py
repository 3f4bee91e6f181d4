"""Change the pure rooms in small ways and see that tests notice: every survivor is explained.

    python tests/mutation.py [MODULE ...]     as core.search; default: all of them

mutmut makes the changes, each in a copy of the tree, and runs the tests that reach it. It changes
functions and methods, no properties and nothing outside of functions: rules stand in functions,
but for `RefinementTree.gain` (test_rules.py holds it). Survivors that tests/mutation_survivors.toml
explains are fine; any other, and an explanation that explains nothing any more, ends the run with
status 1.
"""

import ast
import difflib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("core", "rows")
COPY = ROOT / "mutants/avr"
EXPLAINED = ROOT / "tests/mutation_survivors.toml"
# Exit status of the tests: nothing noticed; no test reaches the change; it was skipped or not run.
LEFT = (0, 5, 33, 34, None)
# The tests took too long: they notice a change that never ends, or the machine was busy.
SLOW = (-24, 24, 36, 152, 255)


@dataclass(frozen=True)
class Survivor:
    """A change that no test noticed: the module, what stood there, and what stands there now."""

    module: str
    was: str
    now: str


def survivors(module: str, ended: tuple[int | None, ...] = LEFT) -> Iterator[Survivor]:
    """Yield the changes to a module whose tests ended so in the last run; `LEFT`: unnoticed."""
    source = COPY / f"{module.replace('.', '/')}.py"
    status = json.loads(source.with_suffix(".py.meta").read_text())["exit_code_by_key"]
    left = [name.rpartition(".")[2] for name, code in status.items() if code in ended]
    functions = {
        node.name: ast.unparse(node).replace(node.name, "f", 1).splitlines()
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for name in left:
        before = functions[re.sub(r"__mutmut_\d+$", "__mutmut_orig", name)]
        changed = list(difflib.ndiff(before, functions[name]))
        was = " ".join(line[2:].strip() for line in changed if line.startswith("- "))
        now = " ".join(line[2:].strip() for line in changed if line.startswith("+ "))
        yield Survivor(module, was, now)


def explains(entry: dict[str, str], survivor: Survivor) -> bool:
    """Check whether an entry of the file is about this survivor: its patterns match in full."""
    return (
        entry.get("module", survivor.module) == survivor.module
        and re.fullmatch(entry.get("was", ".*"), survivor.was) is not None
        and re.fullmatch(entry.get("now", ".*"), survivor.now) is not None
    )


def main(modules: list[str]) -> int:
    """Run the changes of these modules; return 1 where one survived without an explanation."""
    every = [
        f"{room}.{path.stem}"
        for room in ROOMS
        for path in sorted((ROOT / "avr" / room).glob("[a-z]*.py"))
    ]
    modules = modules or every
    command = [sys.executable, "-m", "mutmut", "run", *(f"avr.{name}.*" for name in modules)]
    # mutmut keeps what it found of an unchanged function, whatever the tests have become.
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)
    log = ROOT / "mutants.log"
    with log.open("w") as written:
        ended = subprocess.run(command, cwd=ROOT, stdout=written, stderr=subprocess.STDOUT)
    if ended.returncode:
        print(log.read_text()[-2000:])
        return ended.returncode
    entries = tomllib.loads(EXPLAINED.read_text())["survivor"]
    found = [survivor for module in modules for survivor in survivors(module)]
    new = [each for each in found if not any(explains(entry, each) for entry in entries)]
    for each in new:
        print(f"survived: {each.module}\n  - {each.was}\n  + {each.now}")
    slow = [survivor for module in modules for survivor in survivors(module, SLOW)]
    stale = [
        entry
        for entry in entries
        if (entry.get("module") in modules or ("module" not in entry and modules == every))
        and not any(explains(entry, each) for each in found + slow)
    ]
    for entry in stale:
        print(f"explains nothing: {entry}")
    print(
        f"{len(found)} of the changes to {', '.join(modules)} survived, {len(new)} unexplained;"
        f" the tests of {len(slow)} took too long"
    )
    return 1 if new or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
