"""What the pages say is there: commands, files, links, rooms; and they can be read."""

import re
from pathlib import Path

import pytest
from test_rooms import ROOMS

FOLDERS = ("avr", "benchmarks", "cluster", "docs", "tests")
PAGES = [*Path().glob("*.md"), *(page for folder in FOLDERS for page in Path(folder).rglob("*.md"))]
CODE = re.compile(r"^```.*?^```", re.M | re.S)


def without_code(page: Path) -> str:
    return CODE.sub(lambda code: "\n" * code.group().count("\n"), page.read_text())


def test_readme_is_short():
    assert len(Path("README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_line_of_prose_is_too_long_to_read(page):
    lines = enumerate(without_code(page).splitlines(), 1)
    assert [n for n, line in lines if len(line) > 140 and not line.lstrip().startswith("|")] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", without_code(page))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_name_what_there_is(page):
    text = page.read_text()
    files = re.findall(
        r"\b(?:jobs|conf|benchmarks|cluster|tests|avr)/[\w/.-]+\.(?:py|yaml)\b", text
    )
    if page.name != "CHANGELOG.md":  # which also tells of what is gone
        assert [file for file in files if not Path(file).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), re.M))
    asked = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", text, re.M)
    assert {one or other for one, other in asked} <= targets


def test_architecture_shows_the_rooms_in_their_order():
    rows = re.findall(r"^\| `(\w+)` \|", Path("ARCHITECTURE.md").read_text(), re.M)
    assert rows == list(ROOMS)
