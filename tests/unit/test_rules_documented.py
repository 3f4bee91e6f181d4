"""docs/rows.md and the rules that there are."""

from pathlib import Path

import pytest
from scripted import TEMPLATES
from test_output_pairs import BEST, WORST, outputs_of, pairs_of
from test_rows import GOOD, rows_of
from test_rows import pairs_of as pairs_of_trees

from avr.core.funnel import Funnel
from avr.core.own_judge import make_judgement_pairs
from avr.core.selection import DEFINITIONS, PROFILES, SWITCHES, switched_on
from avr.core.trajectory import TRAJECTORY_TEMPLATES
from avr.core.unrolling import select_trajectories

ROWS = Path("docs/rows.md").read_text()
ALL = frozenset(SWITCHES)


def in_force():
    """Every rule that any funnel counts."""
    think = TRAJECTORY_TEMPLATES["think"]
    unrolled, judged = Funnel("trajectories"), Funnel("judgements")
    list(select_trajectories([GOOD], TEMPLATES, think, ALL, unrolled, unchanged_share=1.0))
    list(make_judgement_pairs([outputs_of(BEST)], TEMPLATES, judged))
    funnels = [rows_of(GOOD, switches=ALL)[1], *pairs_of_trees(GOOD, switches=ALL)[1].values()]
    funnels += [pairs_of(outputs_of(BEST, WORST), switches=ALL, max_pairs=1)[1], unrolled, judged]
    return {rule for funnel in funnels for rule in funnel.removed}


def test_every_rule_is_a_switch_or_a_definition_and_has_its_line():
    assert in_force() == (ALL | set(DEFINITIONS)) - {"plain_rows"}  # which adds rows
    assert not ALL & set(DEFINITIONS)
    for name, words in (SWITCHES | DEFINITIONS).items():
        assert f"| `{name}` | {words} |" in ROWS


@pytest.mark.parametrize("profile", PROFILES["rsft"])
def test_the_profiles_that_switch_a_rule_on_stand_beside_it(profile):
    column = ["recommended", "as_paper", "as_released"].index(profile) + 2
    for name in SWITCHES:
        line = next(line for line in ROWS.splitlines() if line.startswith(f"| `{name}` |"))
        named = {rows.lower() for rows in line.strip("| ").split(" | ")[column].split(", ")} - {"-"}
        assert named == {rows for rows, profiles in PROFILES.items() if name in profiles[profile]}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_what_a_row_is_cannot_be_switched(name):
    with pytest.raises(ValueError, match=f"rule '{name}' cannot be switched: it is what such"):
        switched_on("rsft", "recommended", {name: False})
