"""Write the table: Markdown and pictures for people, JSON for programs."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import rich.table
from rich.markup import escape

from avr import terminal
from avr.config.table import TableConfig
from avr.data.tables import read_rows
from avr.evaluation import charts
from avr.evaluation.paired import Estimate
from avr.evaluation.standing import Answered, Ordering, Standing, by_row, standing
from avr.evaluation.turns import Turn
from avr.reports.final_answers import ANSWERED, baseline_row, row_names, rows_of
from avr.storage import Location, location, write_text, written
from avr.terminal import CONSOLE, number

Items = Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """Hold the content of a table. `notes` are lines that stand below it.

    `items` maps each row of the table to the number of rows that its model was trained on; 0 if
    none of our trainings made it.
    """

    baseline: str
    standings: Sequence[Standing]
    items: Items
    right: float
    orderings: Sequence[Ordering] = ()
    turns: Sequence[Turn] = ()
    efficiency: Sequence[str] = ()
    notes: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def table_of(config: TableConfig, folder: Location) -> Table:
    """Make the table of one run from its answers.parquet."""
    standings = standings_of(config, by_row(answers_in(folder)))
    notes = not_compared(standings, num_asked(folder))
    return Table(baseline_row(config), standings, items_of(config), config.right, notes=notes)


def standings_of(config: TableConfig, rows: Mapping[str, Sequence[Answered]]) -> list[Standing]:
    """Compare all rows with the baseline, in the order of the configuration."""
    baseline = rows[baseline_row(config)]
    return [standing(rows[name], baseline, config.right) for name in row_names(config)]


def num_asked(folder: Location) -> int:
    """Count the prompts that every entrant of a table's run was asked."""
    return sum(1 for _ in read_rows(folder / "answer" / "prompts.parquet", ["id"]))


def answers_in(folder: Location, replication: str = "") -> list[Answered]:
    """Read the answers of a table's run."""
    columns = [name for name in ANSWERED.names if name != "query"]
    rows = read_rows(folder / "answers.parquet", columns)
    return [Answered(**row, replication=replication) for row in rows]


def items_of(config: TableConfig) -> dict[str, float]:
    """Count the rows that each row's model was trained on, from the records of the trainings."""
    return {
        row: float(sum(map(_num_trained, entrant.trained)))
        for name, entrant in config.entrants.items()
        for row in rows_of(name, entrant)
    }


def write_table(table: Table, folder: Location) -> None:
    """Write table.json, table.md and the pictures, and show the most important columns."""
    into = partial(_picture, folder)
    charts.draw_win_rates(table.standings, table.baseline, into)
    charts.draw_length(table.standings, into)
    pictures = ["win_rates.svg", "length_quality.svg"]
    by_name = {one.row: one for one in table.standings}
    if table.efficiency:
        points = [(round(table.items[name]), by_name[name]) for name in table.efficiency]
        charts.draw_efficiency(points, into)
        pictures.append("efficiency.svg")
    if len(table.turns) > 1:
        charts.draw_turns(table.turns, into)
        pictures.append("turns.svg")
    write_text(folder / "table.json", json.dumps(_plain(table), indent=1))
    lines = _markdown(table)
    shown = [f"![{name.removesuffix('.svg')}]({name})" for name in pictures]
    write_text(folder / "table.md", "\n".join([*lines, "", *shown, ""]))
    CONSOLE.print(_screen(table))
    for claim in table.orderings:
        words = f"{claim.claim}: {_interval(claim.difference, '+.3f')}, {claim.verdict}"
        CONSOLE.print(words, markup=False)
    CONSOLE.print(*table.notes, sep="\n", markup=False)
    CONSOLE.print(f"table: {folder / 'table.md'} (and .json)", markup=False, soft_wrap=True)


def _num_trained(model: str) -> int:
    record = json.loads((location(model) / "training.json").read_text())
    return int(record["result"]["num_trained"])


def not_compared(standings: Sequence[Standing], num_prompts: int) -> list[str]:
    """Write a line for each row with prompts that it or the baseline has no answer to.

    Such prompts are in quarantine, with the reason, and in none of the row's numbers.
    """
    return [
        f"{one.row}: {num_prompts - one.num_answers} of {num_prompts} prompts are not compared"
        " (see quarantine)"
        for one in standings
        if one.num_answers != num_prompts
    ]


def _picture(folder: Location, name: str) -> Any:
    return written(folder / name)


def _plain(table: Table) -> dict[str, Any]:
    return {
        "baseline": table.baseline,
        "rows": [{"items": table.items[s.row], **asdict(s)} for s in table.standings],
        "orderings": [
            {**asdict(o), "claim": str(o.claim), "verdict": o.verdict} for o in table.orderings
        ],
        "turns": [asdict(turn) for turn in table.turns],
        "efficiency": list(table.efficiency),
        "notes": list(table.notes),
        **table.extra,
    }


COLUMNS = (
    "",
    "items",
    "win rate %",
    "lc_noreg %",
    "reward win rate %",
    "quality",
    "characters",
    "tokens",
    "failed %",
    "right to wrong %",
    "wrong to right %",
)


_WIDTH = 110
SHOWN = ("", "items", "win rate %", "lc_noreg %", "reward %", "quality", "chars", "tokens")


def _markdown(table: Table) -> list[str]:
    legend = (
        f"Against the answers of {table.baseline}; {_answers(table)}"
        " answers a row; [95% interval, clustered by prompt]. items: rows trained on. tokens: all"
        " that were generated for an answer. right to wrong, wrong to right: of the prompts whose"
        f" draft, r0 or that of a trajectory, was right, or not (quality {table.right:g} or more);"
        " failed outputs have none. Intervals are over prompts, for the models that were trained:"
        " what another training would give is not in them. Of several seeds, the quality of each is"
        " in round brackets."
    )
    lines = [
        *textwrap.wrap(legend, _WIDTH, break_on_hyphens=False),
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(_cells(s, table))} |" for s in table.standings),
    ]
    if table.orderings:
        lines += ["", "| claim | higher - lower | of each seed | |", "|---|---|---|---|"]
        lines += [
            f"| {o.claim} | {_interval(o.difference, '+.3f')} |"
            f" {', '.join(f'{each:+.3f}' for each in o.by_replication.values())} | {o.verdict} |"
            for o in table.orderings
        ]
    if table.turns:
        lines += [
            "",
            "| turn of the search | reward | quality | taken | their gain in reward |"
            " in quality | worse by the oracle |",
            "|---|---|---|---|---|---|---|",
            *(_turn(turn) for turn in table.turns),
        ]
    return lines + [line for note in table.notes for line in ("", note)]


def _screen(table: Table) -> rich.table.Table:
    """Make the table with the columns that fit on a screen; table.md has all columns."""
    title = f"Against {escape(table.baseline)}, {_answers(table)} answers a row; [95% interval]"
    shown = terminal.table(title, SHOWN, left=[""], no_wrap=True)
    for one in table.standings:
        against, lc = one.row != table.baseline, one.lc_win_rate
        shown.add_row(
            escape(one.row),
            f"{table.items[one.row]:.0f}" if table.items[one.row] else "-",
            _interval(one.win_rate, ".1f") if against else "-",
            f"{lc.lc_noreg:.1f}" if lc and against else "-",
            f"{one.reward_win_rate.mean:.1f}" if against else "-",
            f"{one.quality.mean:.3f}" if one.quality else "-",
            f"{one.characters:.0f}",
            f"{one.tokens:.0f}",
        )
    return shown


def _answers(table: Table) -> str:
    numbers = [s.num_answers for s in table.standings if s.row != table.baseline]
    least, most = min(numbers, default=0), max(numbers, default=0)
    return str(least) if least == most else f"{least}-{most}"


def _cells(one: Standing, table: Table) -> list[str]:
    against = one.row != table.baseline
    lc = one.lc_win_rate
    return [
        one.row,
        f"{table.items[one.row]:.0f}" if table.items[one.row] else "-",
        _interval(one.win_rate, ".1f") if against else "-",
        f"{lc.lc_noreg:.1f} [{lc.low:.1f}, {lc.high:.1f}]" if lc and against else "-",
        _interval(one.reward_win_rate, ".1f") if against else "-",
        _interval(one.quality, ".3f") + _of_each(one.by_replication),
        f"{one.characters:.0f}",
        f"{one.tokens:.0f}",
        f"{one.failures:.1f}",
        _of(one.right_to_wrong, one.num_right),
        _of(one.wrong_to_right, one.num_wrong),
    ]


def _of(rate: float | None, number: int) -> str:
    return "-" if rate is None else f"{rate:.1f} of {number}"


def _of_each(by_replication: dict[str, float]) -> str:
    several = len(by_replication) > 1
    return f" ({', '.join(f'{q:.3f}' for q in by_replication.values())})" if several else ""


def _turn(turn: Turn) -> str:
    worse = "-" if turn.num_worse is None or not turn.num_taken else str(turn.num_worse)
    cells = [
        str(turn.number),
        f"{turn.reward:.3f}",
        number(turn.quality, ".3f"),
        str(turn.num_taken) if turn.number else "-",
        number(turn.reward_gain, "+.3f"),
        number(turn.quality_gain, "+.3f"),
        worse,
    ]
    return f"| {' | '.join(cells)} |"


def _interval(value: Estimate | None, form: str) -> str:
    if value is None:
        return "-"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"
