"""Scored trees and what the authors' released scripts make of them, read for the tests."""

import json
import os
from itertools import count
from pathlib import Path

from scripted import searched

from avr.core.messages import from_dicts
from avr.core.outputs import Output, OutputSet
from avr.core.tree import Critique, Level, Prompt, RefinementTree, Response

_NAMED = os.environ.get("AVR_RELEASED_DATA")
FOLDER = Path(_NAMED or Path(__file__).parents[3] / "shared/data/as_released")
REASON = f"needs the released scripts' choices in {FOLDER} (AVR_RELEASED_DATA names another)"


def cases(name):
    """The lines of one file with their numbers; none where the folder is not there."""
    file = FOLDER / f"{name}.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [(number, json.loads(line)) for number, line in enumerate(lines, 1)]


def grown(number, case):
    """A line of stage1.jsonl as a tree of one level; node ids say where a node stands."""
    critiques = tuple(
        Critique(
            f"c{c}",
            text,
            5,
            "stop",
            1,
            tuple(
                Response(f"r{c}.{r}", refinement, "stop", 1, reward)
                for r, (refinement, reward) in enumerate(refined)
            ),
        )
        for c, (text, refined) in enumerate(case["critiques"])
    )
    first = Response("y0", case["y0"], "stop", 1, case["y0_reward"])
    prompt = Prompt.of(from_dicts(case["query"]), None, f"stage1:{number}")
    levels = (Level(first.id, critiques),) if critiques else ()
    return RefinementTree(f"stage1:{number}", prompt, first, levels)


def search_of(number, case):
    """A line of stage2_search.jsonl as a searched tree, without the nodes that failed."""
    names = count()

    def critique_of(text, refinements, rewards):
        pairs = zip(refinements or (), rewards or (), strict=True)
        refined = tuple(
            Response(f"r{next(names)}", text, "stop", 1, reward)
            for text, reward in pairs
            if text is not None and reward is not None
        )
        return Critique(f"c{next(names)}", text, 5, "stop", 1, refined)

    levels = [
        tuple(
            critique_of(*column)
            for column in zip(
                level["critiques"], level["refinements"], level["rewards"], strict=True
            )
            if column[0] is not None
        )
        for level in case["levels"]
    ]
    first = Response("y0", case["y0"], "stop", 1, case["y0_reward"])
    tree = searched(first, *levels)
    prompt = Prompt.of(from_dicts(case["query"]), None, f"search:{number}")
    return RefinementTree(f"search:{number}", prompt, first, tree.levels)


def outputs_of(number, case, render):
    """A line of stage2_outputs.jsonl as a set of outputs; `render` gives each its text."""
    outputs = tuple(
        Output(f"o{o}", render(each), each["answer"], 1, "stop", 1, reward=each["reward"])
        for o, each in enumerate(case["outputs"])
    )
    prompt = Prompt.of(from_dicts(case["query"]), None, f"outputs:{number}")
    return OutputSet(f"outputs:{number}", prompt, outputs, reference=case["reference_reward"])
