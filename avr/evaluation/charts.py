"""Draw the table's pictures: win rates, lengths, amounts of data, and turns of the search."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from avr.evaluation.paired import Estimate
from avr.evaluation.standing import Standing
from avr.evaluation.turns import Turn

NAME_SIZE = 7  # font size of the names beside the plotted points


class Written(Protocol):
    """Give a context in which a picture of this file name is written."""

    def __call__(self, name: str) -> AbstractContextManager[Path]:
        """Give the path to write to; the picture is in its place when the context ends."""
        ...


def draw_win_rates(standings: Sequence[Standing], baseline: str, written: Written) -> None:
    """Draw each row's win rate with its interval; by reward where there is no oracle."""
    rows = [one for one in standings if one.row != baseline]
    rates = [one.win_rate or one.reward_win_rate for one in rows]
    judge = "the oracle" if all(one.win_rate for one in rows) else "the reward model"
    with new_axes(written, "win_rates.svg", height=1.2 + 0.3 * len(rows)) as axes:
        axes.axvline(50, color="0.7", linewidth=1)
        _points(axes, rates, list(range(len(rows))), horizontal=True)
        axes.set_yticks(range(len(rows)), [one.row for one in rows])
        axes.invert_yaxis()
        axes.set_xlabel(f"win rate against {baseline} by {judge}, % [95%, clustered by prompt]")


def draw_length(standings: Sequence[Standing], written: Written) -> None:
    """Draw the mean length of the answers against their quality (or reward)."""
    with new_axes(written, "length_quality.svg") as axes:
        places = [(one.characters, (one.quality or one.reward).mean) for one in standings]
        for place in places:
            axes.plot(*place, "o", color="tab:blue")
        axes.margins(x=0.15)  # for the names
        axes.set_xlabel("mean characters of an answer")
        axes.set_ylabel(_judge(standings))
        _name(axes, places, [one.row for one in standings])


def draw_efficiency(points: Sequence[tuple[int, Standing]], written: Written) -> None:
    """Draw quality (or reward) over the number of items trained on."""
    with new_axes(written, "efficiency.svg") as axes:
        values = [one.quality or one.reward for _, one in points]
        items = [number for number, _ in points]
        axes.plot(items, [value.mean for value in values], color="tab:blue")
        _points(axes, values, items)
        axes.set_xscale("log")
        axes.set_xticks(items, [f"{one.row}\n{number}" for number, one in points])
        axes.minorticks_off()
        axes.set_xlabel("rows that it was trained on, all trainings together")
        axes.set_ylabel(_judge([one for _, one in points]))


def draw_turns(turns: Sequence[Turn], written: Written) -> None:
    """Draw reward and quality after each turn, with the number of turns taken and made worse."""
    numbers = [turn.number for turn in turns]
    with new_axes(written, "turns.svg") as axes:
        axes.plot(numbers, [t.reward for t in turns], "o-", color="tab:orange")
        axes.set_xticks(numbers)
        axes.set_xlabel("turn of the search (0: first answer)")
        axes.set_ylabel("mean reward", color="tab:orange")
        judged = [t for t in turns if t.quality is not None]
        if judged:
            other = axes.twinx()
            qualities = [t.quality for t in judged]
            other.plot([t.number for t in judged], qualities, "s-", color="tab:blue")
            other.set_ylabel("mean quality by the oracle", color="tab:blue")
            for turn, quality in zip(judged, qualities, strict=True):
                if turn.num_taken:
                    other.annotate(
                        f"{turn.num_taken} taken,\n{turn.num_worse} worse",
                        (turn.number, quality),
                        xytext=(0, -22),
                        textcoords="offset points",
                        fontsize=7,
                        ha="center",
                    )


@contextmanager
def new_axes(written: Written, name: str, height: float = 4.0) -> Any:
    """Make the axes of a new figure, which is written when the context ends."""
    from matplotlib import rcParams  # takes half a second, and only charts need it
    from matplotlib.figure import Figure

    rcParams["svg.fonttype"] = "none"  # texts stay texts, not outlines
    rcParams["svg.hashsalt"] = name  # the same picture from the same figures
    figure = Figure(figsize=(7.5, height), layout="constrained")
    axes = figure.subplots()
    yield axes
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with written(name) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})


def _judge(standings: Sequence[Standing]) -> str:
    return "mean quality" if all(one.quality for one in standings) else "mean reward"


def _points(
    axes: Any, values: Sequence[Estimate], places: Sequence[float], horizontal: bool = False
) -> None:
    means = [value.mean for value in values]
    below = [value.mean - value.low for value in values]
    above = [value.high - value.mean for value in values]
    style = {"fmt": "o", "color": "tab:blue", "capsize": 3}
    if horizontal:
        axes.errorbar(means, places, xerr=[below, above], **style)
    else:
        axes.errorbar(places, means, yerr=[below, above], **style)


def _name(axes: Any, places: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Write a name beside each point, in a place where it covers no other, if there is one."""
    axes.figure.draw_without_rendering()  # from here on `transData` gives the final pixels
    pixel = 72 / axes.figure.dpi
    points = [axes.transData.transform(place) * pixel for place in places]
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    for (x, y), place, name in zip(points, places, names, strict=True):
        width = 0.6 * NAME_SIZE * len(name)
        beside = ((5, -2), (-4 - width, -2), (-width / 2, 6), (-width / 2, -11))
        further = ((5, 6), (5, -11), (-5 - width, 6), (-5 - width, -11), (5, 14), (5, -19))
        boxes = {
            (dx, dy): (x + dx, y + dy, x + dx + width, y + dy + NAME_SIZE)
            for dx, dy in (*beside, *further)
        }
        free = (at for at, box in boxes.items() if not any(_overlap(box, other) for other in taken))
        at = next(free, beside[0])
        taken.append(boxes[at])
        axes.annotate(name, place, xytext=at, textcoords="offset points", fontsize=NAME_SIZE)


Box = tuple[float, float, float, float]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
