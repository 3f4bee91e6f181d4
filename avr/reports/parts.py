"""Make tables of the parts that steps give: columns side by side, or rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from avr.terminal import table


@dataclass(frozen=True)
class Column:
    """Hold one column of a table of figures: `cells` maps the rows' names to their figures.

    Columns of one `title` stand side by side in one table. Columns of one `title` and `name` are
    one column, with their cells below each other.
    """

    title: str
    name: str
    cells: dict[str, str]


@dataclass(frozen=True)
class Rows:
    """Hold rows of a table; those of one `title` stay together. `left`: left-aligned columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[str, ...] = ()
    caption: str | None = None


Part = Column | Rows


def tables_of(parts: Iterable[Part]) -> list[Table]:
    """Put parts of equal titles together, in the order in which the titles came."""
    titles: dict[str, list[Part]] = {}
    for part in parts:
        titles.setdefault(part.title, []).append(part)
    return [_table(of_title) for of_title in titles.values()]


def _table(parts: Sequence[Part]) -> Table:
    columns = [part for part in parts if isinstance(part, Column)]
    return _figures(columns) if columns else _rows([p for p in parts if isinstance(p, Rows)])


def _figures(columns: Sequence[Column]) -> Table:
    cells: dict[str, dict[str, str]] = {}
    for column in columns:
        cells.setdefault(column.name, {}).update(column.cells)
    # The first column has the rows' names; one column of figures beside it may have no name, too.
    shown = table(columns[0].title, [""], left=[""], show_header=cells.keys() != {""})
    for name in cells:
        shown.add_column(name, justify="right")
    for row in dict.fromkeys(row for of_column in cells.values() for row in of_column):
        shown.add_row(row, *(of_column.get(row, "-") for of_column in cells.values()))
    return shown


def _rows(parts: Sequence[Rows]) -> Table:
    first = parts[0]
    shown = table(
        first.title,
        first.columns,
        left=first.left or first.columns[:1],
        no_wrap=not first.left,
        caption=next((part.caption for part in parts if part.caption), None),
        caption_justify="left",
    )
    for part in parts:
        for row in part.rows:
            shown.add_row(*row)
    return shown
