"""Imports go one way, and the pure rooms start without the heavy packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"ray", "torch", "vllm", "trl", "transformers", "deepspeed", "datasets"}
# A room may import itself and the rooms after it in its own list, nothing else of avr.
BELOW = {
    "core": set(),
    "config": {"core", "config_health"},
    "config_health": set(),
    "config_checks": {"config"},
    "config_stage2": {"core", "config", "config_health"},
    "config_evaluation": {"core", "config", "config_stage2"},
    "config_table": {"core", "config", "config_stage2", "config_evaluation"},
    "loading": {"core", "config"},
    "versions": set(),
    "pace": set(),
    "storage": {"config"},
    "memory": set(),
    "engines": {"core", "config", "storage", "memory"},
    "training": {"core", "config", "config_checks", "pace", "storage", "engines", "memory"},
    "evaluation": {"core", "config", "config_evaluation"},
    "miniature": {"core", "config", "engines", "evaluation"},
    "pipeline": {
        "core",
        "config",
        "config_checks",
        "config_health",
        "config_stage2",
        "config_evaluation",
        "config_table",
        "loading",
        "versions",
        "pace",
        "storage",
        "engines",
        "memory",
        "training",
        "evaluation",
    },
    "checks": {
        "core",
        "config",
        "config_checks",
        "versions",
        "storage",
        "engines",
        "training",
        "miniature",
        "pipeline",
    },
}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


FILES = [f for f in sorted(Path("avr").rglob("*.py")) if f.name != "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_down_only(file):
    room = file.relative_to("avr").with_suffix("").parts[0]
    own = {n.split(".")[1] for n in imported(file) if n.startswith("avr.")}
    assert own - {room} <= BELOW[room]


@pytest.mark.parametrize("file", sorted(Path("avr/core").glob("*.py")), ids=str)
def test_core_imports_the_standard_library_only(file):
    outside = {n.split(".")[0] for n in imported(file)} - set(sys.stdlib_module_names) - {"avr"}
    assert outside == set()


@pytest.mark.parametrize(
    "module",
    [
        "core.growth",
        "core.pairs",
        "config",
        "core.own_judge",
        "evaluation.judges",
        "evaluation.standing",
        "evaluation.charts",
        "config_table",
        "engines.shape",
        "pipeline.fit",
        "pipeline.health",
        "pipeline.model_checks",
        "memory.dry_run",
        "memory.engine",
        "memory.training",
        "pipeline.refined",
        "pipeline.evaluation_report",
        "miniature.oracle",
        "training.rows",
        "checks.faults",
        "checks.outcome",
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
