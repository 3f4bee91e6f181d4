"""Stage II's training rows: trajectories of searches, pairs of sampled outputs."""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

from avr.config.rows import OutputPairsConfig, TrajectoriesConfig
from avr.config.texts import template_of
from avr.core.prompts import Templates
from avr.core.search import Closing
from avr.data import tables
from avr.rows.funnel import Funnel
from avr.rows.judgement_pairs import make_judgement_pairs
from avr.rows.output_pairs import make_malformed_pairs, make_output_pairs
from avr.rows.row import PreferencePair
from avr.rows.rules import CLOSINGS
from avr.rows.trajectories import select_trajectories
from avr.storage import Location


def unroll(
    trees: Location,
    file: Location,
    templates: Templates,
    rules: TrajectoriesConfig,
    switches: frozenset[str],
) -> dict[str, Any]:
    """Write an RSFT row for each searched tree that the rules let through; return the counts."""
    funnel = Funnel("trajectories")
    rows = select_trajectories(
        tables.read_trees(trees),
        templates,
        template_of(rules),
        switches,
        funnel,
        unchanged_share=rules.unchanged_share,
        min_gain=rules.min_gain,
        closing=closing_of(rules),
    )
    count = tables.write_rows(file, map(tables.rsft_row, rows), tables.RSFT_ROWS)
    num_unchanged = sum(row["gain"] == 0 for row in tables.read_rows(file, ["gain"]))
    return {"num_rows": count, "num_unchanged": num_unchanged, "funnel": funnel.to_dict()}


def pair(
    folder: Location,
    file: Location,
    templates: Templates,
    rules: OutputPairsConfig,
    switches: frozenset[str],
    *,
    own_judge: bool,
) -> dict[str, Any]:
    """Write the preference pairs of the sampled outputs in `folder`; return the counts.

    Pairs of outputs come first, then those with malformed outputs, then those of judgements.
    """
    read = partial(tables.read_sets, folder)
    funnels = [Funnel("outputs")]
    pairs = make_output_pairs(
        read,
        templates,
        switches,
        funnels[0],
        rules.min_margin,
        per_prompt=rules.per_prompt,
        max_pairs=rules.max_pairs,
    )
    if rules.malformed_share:
        funnels.append(Funnel("malformed"))
        pairs = chain(pairs, _malformed(folder, templates, rules, switches, *funnels))
    if own_judge:
        funnels.append(Funnel("judgements"))
        pairs = chain(pairs, make_judgement_pairs(read(), templates, funnels[-1]))
    count = tables.write_rows(file, map(tables.pair_row, pairs), tables.PAIRS)
    return {"num_pairs": count, "funnels": [funnel.to_dict() for funnel in funnels]}


def _malformed(
    folder: Location,
    templates: Templates,
    rules: OutputPairsConfig,
    switches: frozenset[str],
    of_outputs: Funnel,
    funnel: Funnel,
) -> Iterator[PreferencePair]:
    """Begin when all pairs of outputs are made: their number decides the number of these."""
    yield from make_malformed_pairs(
        tables.read_sets(folder),
        templates,
        switches,
        funnel,
        share=rules.malformed_share,
        num_others=of_outputs.num_out,
    )


def more_pairs(rules: OutputPairsConfig) -> dict[str, Any]:
    """Name what the step of pairs depends on besides; nothing where it is one of each prompt."""
    plain = rules.per_prompt == 1 and rules.max_pairs is None
    more = {} if plain else {"per_prompt": rules.per_prompt, "max_pairs": rules.max_pairs}
    return more | ({"malformed_share": rules.malformed_share} if rules.malformed_share else {})


def closing_of(rules: TrajectoriesConfig) -> Closing:
    """Name the critique that closes a trajectory: the setting's, else the profile's."""
    return rules.closing.value if rules.closing else CLOSINGS[rules.profile]
