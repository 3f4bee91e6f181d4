"""docs/concepts/rows.md and the rules that there are."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from made_rows import GOOD, rows_of
from made_rows import pairs_of as pairs_of_trees
from scripted import TEMPLATES
from test_output_pairs import BEST, WORST, malformed_pairs_of, outputs_of, pairs_of

from avr.core.growth import Shape
from avr.core.trajectory import TRAJECTORY_TEMPLATES
from avr.data.prompt_sets import QUARANTINED
from avr.data.schemas import OUTPUTS, PAIRS, RSFT_ROWS, TREES
from avr.rows.funnel import Funnel
from avr.rows.judgement_pairs import make_judgement_pairs
from avr.rows.rules import ALWAYS, PROFILES, SWITCHES, rules_of, switched_on
from avr.rows.trajectories import select_trajectories
from avr.rows.verified import select_verified

ROWS = Path("docs/concepts/rows.md").read_text()
ALL = frozenset(SWITCHES)


def in_force():
    """Every rule that any funnel counts."""
    think = TRAJECTORY_TEMPLATES["think"]
    unrolled, judged = Funnel("trajectories"), Funnel("judgements")
    list(
        select_trajectories(
            [GOOD], TEMPLATES, think, ALL, unrolled, unchanged_share=1.0, shape=Shape()
        )
    )
    list(make_judgement_pairs([outputs_of(BEST)], TEMPLATES, judged))
    funnels = [rows_of(GOOD, switches=ALL)[1], *pairs_of_trees(GOOD, switches=ALL)[1].values()]
    funnels += [pairs_of(outputs_of(BEST, WORST), switches=ALL, max_pairs=1)[1], unrolled, judged]
    funnels.append(malformed_pairs_of(outputs_of(BEST), switches=ALL)[1])
    funnels.append(Funnel("rft"))
    list(select_verified([outputs_of(BEST)], TEMPLATES, ALL, funnels[-1], truth="maths"))
    return {rule for funnel in funnels for rule in funnel.removed}


def test_every_rule_is_a_switch_or_a_definition_and_has_its_line():
    assert in_force() == (ALL | set(ALWAYS)) - {"plain_rows"}  # which adds rows
    assert not ALL & set(ALWAYS)
    for name, words in (SWITCHES | ALWAYS).items():
        assert f"| `{name}` | {words} |" in ROWS
    assert set(re.findall(r"^\| `(\w+)` \|", ROWS, re.M)) == ALL | set(ALWAYS)


def names_in(kind):
    """Of a schema or a type in it: all columns, at any depth, but those of messages."""
    if isinstance(kind, pa.DataType) and pa.types.is_list(kind):
        return names_in(kind.value_type)
    nested = isinstance(kind, pa.Schema) or pa.types.is_struct(kind)
    fields = list(kind) if nested else []
    deeper = (names_in(field.type) for field in fields)
    return {field.name for field in fields}.union(*deeper) - {"role", "content"}


@pytest.mark.parametrize("schema", [TREES, OUTPUTS, RSFT_ROWS, PAIRS, QUARANTINED])
def test_every_column_is_named(schema):
    assert not [name for name in names_in(schema) if f"`{name}`" not in ROWS]


@pytest.mark.parametrize("profile", PROFILES["rsft"])
def test_the_profiles_that_switch_a_rule_on_stand_beside_it(profile):
    column = ["recommended", "as_paper", "as_released"].index(profile) + 2
    for name in SWITCHES:
        line = next(line for line in ROWS.splitlines() if line.startswith(f"| `{name}` |"))
        named = {rows.lower() for rows in line.strip("| ").split(" | ")[column].split(", ")} - {"-"}
        assert named == {rows for rows, profiles in PROFILES.items() if name in profiles[profile]}


@pytest.mark.parametrize("name", ALWAYS)
def test_what_a_row_is_cannot_be_switched(name):
    with pytest.raises(ValueError, match=f"rule '{name}' has no switch: "):
        switched_on("rsft", "recommended", {name: False})


@pytest.mark.parametrize("rows", PROFILES)
def test_a_rule_that_these_rows_do_not_have_cannot_be_switched(rows):
    own = rules_of(rows)
    for name in own:
        switched_on(rows, "recommended", {name: False})
    for name in ALL - own:
        with pytest.raises(ValueError, match=f"rule '{name}' is not one of {rows} "):
            switched_on(rows, "recommended", {name: True})


def test_an_unknown_rule_names_the_one_that_was_meant():
    with pytest.raises(ValueError, match=r"unknown rule 'no_loops'; did you mean 'no_loop'\?"):
        switched_on("rsft", "recommended", {"no_loops": True})
    with pytest.raises(ValueError, match="unknown rule 'shape'; there are: discreet, finished"):
        switched_on("rsft", "recommended", {"shape": True})
