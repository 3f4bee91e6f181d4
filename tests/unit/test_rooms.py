"""Imports go one way, and the pure rooms start without the heavy packages."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

HEAVY = {"ray", "torch", "vllm", "trl", "transformers", "deepspeed", "datasets"}
# A room may import itself and the rooms before it; ARCHITECTURE.md shows this table.
ROOMS = (
    "core",
    "memory",
    "terminal",
    "config",
    "sandbox",
    "rows",
    "evaluation",
    "storage",
    "engines",
    "data",
    "rewards",
    "miniature",
    "training",
    "plan",
    "reports",
    "hosting",
    "dataflow",
    "run",
    "serving",
    "steps",
    "recipes",
    "replication",
    "checks",
)
MOST_FILES = 16  # of a room, __init__.py among them


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def modules(file: Path) -> set[str]:
    """What a file imports, and what would be meant by `from package import module`."""
    found = imported(file)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = [f for f in sorted(Path("avr").rglob("*.py")) if f.name != "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_down_only(file):
    room = file.relative_to("avr").with_suffix("").parts[0]
    own = {n.split(".")[1] for n in modules(file) if n.startswith("avr.")}
    assert own <= set(ROOMS[: ROOMS.index(room) + 1])


@pytest.mark.parametrize("top", ["avr", "benchmarks", "tests"])
def test_no_room_is_a_drawer(top):
    for room in (folder for folder in Path(top).rglob("*") if folder.is_dir()):
        assert len(list(room.glob("*.py"))) <= MOST_FILES, room


@pytest.mark.parametrize("top", ["avr", "benchmarks"])
def test_no_modules_import_each_other_in_a_circle(top):
    root = Path() if top == "avr" else Path(top)  # what is on the path of those who import
    files = {
        ".".join(f.relative_to(root).with_suffix("").parts): f for f in Path(top).rglob("*.py")
    }
    imports = {name: modules(file) & files.keys() - {name} for name, file in files.items()}
    try:
        list(TopologicalSorter(imports).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    "file", sorted([*Path("avr/core").glob("*.py"), *Path("avr/rows").glob("*.py")]), ids=str
)
def test_core_and_rows_import_the_standard_library_only(file):
    outside = {n.split(".")[0] for n in imported(file)} - set(sys.stdlib_module_names) - {"avr"}
    assert outside == set()


@pytest.mark.parametrize(
    "module",
    [
        "core.growth",
        "rows.tree_pairs",
        "config.run",
        "sandbox.run",
        "core.own_judge",
        "evaluation.judges",
        "evaluation.standing",
        "evaluation.charts",
        "config.table",
        "engines.shape",
        "plan.fit",
        "reports.health",
        "plan.models",
        "memory.dry_run",
        "memory.engine",
        "memory.training",
        "reports.refined",
        "reports.evaluation",
        "miniature.oracle",
        "training.rows",
        "checks.faults",
        "checks.outcome",
        *(f"recipes.{file.stem}" for file in sorted(Path("avr/recipes").glob("[a-z]*.py"))),
        "run.runner",
    ],
)
def test_pure_modules_start_without_heavy_packages(module):
    code = f"import sys, avr.{module}; print(*sorted({HEAVY} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_init_files_hold_a_docstring_at_most():
    for file in Path("avr").rglob("__init__.py"):
        body = ast.parse(file.read_text()).body
        assert len(body) <= 1, file


def test_unit_tests_lie_in_the_rooms_of_what_they_test():
    found = {folder.name for folder in Path("tests/unit").iterdir() if list(folder.glob("test_*"))}
    rooms = {room for room in ROOMS if (Path("avr") / room).is_dir()}
    assert found == {*rooms, "benchmarks"}


def test_no_two_test_files_have_one_name():
    """Their folders are no packages: pytest would take the second for the first."""
    names = [file.name for file in Path("tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
