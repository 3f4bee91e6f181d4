"""What a job's command line sets up before anything heavy is imported."""

import os
import subprocess
import sys

import pytest

from avr.run.command import job

PROGRAM = """
import sys
from avr.run.command import job
sys.argv = ["stage1.py", "conf/miniature/stage1.yaml", "--plan"]
assert "pyarrow" not in sys.modules
assert job("", "avr.recipes.stage1") == 0
import pyarrow
print(pyarrow.default_memory_pool().backend_name)
"""


def test_a_rate_without_anything_to_measure_with_it_is_refused(monkeypatch, capsys):
    words = ["stage1.py", "conf/miniature/stage1.yaml", "--plan", "--tokens-per-second", "9"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        job("", "avr.recipes.stage1")
    assert "--tokens-per-second needs the tokens of a text" in capsys.readouterr().err


def test_a_small_run_without_trees_says_nothing_of_tokens(monkeypatch, capsys, tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    words = ["stage1.py", "conf/miniature/stage1.yaml", "--plan", "--probe", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*words, "--tokens-per-second", "9"])
    assert job("", "avr.recipes.stage1") == 1
    assert "has grown no trees: --tokens-per-second needs" in capsys.readouterr().err


@pytest.mark.parametrize(("asked", "pool"), [(None, "system"), ("mimalloc", "mimalloc")])
def test_arrow_takes_its_memory_from_malloc_unless_something_else_is_asked_for(asked, pool):
    variable = "ARROW_DEFAULT_MEMORY_POOL"
    environment = {name: value for name, value in os.environ.items() if name != variable}
    environment |= {variable: asked} if asked else {}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == pool
