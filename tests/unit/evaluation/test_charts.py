"""Pictures of the table: every row is in them, and they are written where they should be."""

import re
from contextlib import contextmanager
from dataclasses import replace

from avr.evaluation.charts import draw_efficiency, draw_length, draw_turns, draw_win_rates
from avr.evaluation.standing import Answered, standing
from avr.evaluation.turns import Turn


def standings(judged):
    base = [
        Answered("seed", f"p{n}", "text", 0.0, 0.5 if judged else None, 9, False) for n in range(9)
    ]
    better = [
        Answered("ours", a.prompt, "longer text", 1.0, 0.6 if judged else None, 9, False)
        for a in base
    ]
    return [standing(row, base, right=1.0) for row in (base, better)]


def drawn(draw, *arguments, tmp_path):
    names = []

    @contextmanager
    def written(name):
        names.append(name)
        yield tmp_path / name

    draw(*arguments, written)
    (name,) = names
    return name, (tmp_path / name).read_text()


def test_win_rates_leave_the_baseline_out_and_name_the_judge(tmp_path):
    for judged, judge in ((True, "the oracle"), (False, "the reward model")):
        name, text = drawn(draw_win_rates, standings(judged), "seed", tmp_path=tmp_path)
        assert name == "win_rates.svg" and text.startswith("<?xml")
        assert "ours" in text and f"against seed by {judge}" in text


def test_lengths_efficiency_and_turns_are_drawn_with_and_without_an_oracle(tmp_path):
    for judged in (True, False):
        rows = standings(judged)
        name, text = drawn(draw_length, rows, tmp_path=tmp_path)
        assert name == "length_quality.svg" and "seed" in text and "ours" in text
        points = [(10, rows[0]), (1000, rows[1])]
        name, text = drawn(draw_efficiency, points, tmp_path=tmp_path)
        assert name == "efficiency.svg" and "1000" in text
        quality, worse = (0.5, 3) if judged else (None, None)
        turns = [
            Turn(0, 1.0, quality, 0, None, None, None),
            Turn(1, 2.0, quality, 7, 1.0, None, worse),
        ]
        name, text = drawn(draw_turns, turns, tmp_path=tmp_path)
        assert name == "turns.svg" and ("7 taken" in text) == judged


def test_names_of_rows_that_lie_together_lie_apart(tmp_path):
    base = [Answered(f"row {n}", "p", "text", 0.0, 0.5, 9, False) for n in range(5)]
    rows = [standing([a], [replace(a, row="seed")], right=1.0) for a in base]
    _, text = drawn(draw_length, rows, tmp_path=tmp_path)
    places = re.findall(r'<text [^>]*x="([-\d.]+)" y="([-\d.]+)"[^>]*>row \d<', text)
    assert len(places) == len(set(places)) == 5
