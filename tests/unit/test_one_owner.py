"""Installed packages do not overwrite each other's files."""

import subprocess
import sys

import pytest

SCRIPT = "requirements/one_owner.py"


@pytest.fixture
def packages(tmp_path):
    def install(name, version, **files):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        rows = [f"{file}.py,sha256={content},9" for file, content in files.items()]
        (folder / "RECORD").write_text("\n".join([*rows, f"{folder.name}/RECORD,,"]) + "\n")

    return tmp_path, install


def checked(folder):
    command = [sys.executable, SCRIPT, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_file_that_was_overwritten_is_named_with_its_packages(packages):
    folder, install = packages
    install("bindings", "13.5", driver="new", lone="x")
    install("python", "12.6", driver="old", other="x")
    done = checked(folder)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "driver.py belongs to bindings 13.5 and python 12.6",
        f"1 files in {folder} were overwritten: pin other versions",
    ]


def test_equal_files_and_files_of_one_package_are_fine(packages):
    folder, install = packages
    install("census", "1", __init__="same", a="1")
    install("context", "2", __init__="same", b="2")
    done = checked(folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_packages_of_these_tests_have_files_of_their_own():
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
