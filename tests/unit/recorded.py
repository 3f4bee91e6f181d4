"""Trees whose texts a real model wrote: recorded once, as no real model runs in a unit test.

Qwen2.5-Coder-0.5B-Instruct (weights of 4 to 8 bits) corrects itself on the first 12 of GSM8K's
training problems and sees their solutions (docs/evidence/real_models.md). Of a problem there is the
final answer alone. One reward was put right by hand (41 is right).
"""

import json
from dataclasses import replace
from pathlib import Path

from scripted import critique, response, tree

from avr.core.tree import RefinementTree, Response, Verdict

FILE = Path(__file__).parent / "recorded" / "gsm8k_qwen_0.5b.jsonl"


def recorded() -> list[RefinementTree]:
    """Read the trees, in the order of the problems; the judge of their verdicts is "maths"."""
    return [_tree(number, json.loads(line)) for number, line in enumerate(_lines())]


def _lines() -> list[str]:
    return FILE.read_text().splitlines()


def _tree(number: int, said: dict) -> RefinementTree:
    critiques = [
        replace(
            critique(
                each["text"], *map(_answer, each["refinements"]), finish=each["finish_reason"]
            ),
            rating=None,
        )
        for each in said["critiques"]
    ]
    grown = tree(_answer(said["y0"]), *critiques, query=f"problem {number}")
    return replace(grown, prompt=replace(grown.prompt, reference=said["reference"]))


def _answer(said: dict) -> Response:
    answer = response(said["text"], said["reward"], said["finish_reason"])
    return replace(answer, verdicts=(Verdict("maths", said["reward"]),))
