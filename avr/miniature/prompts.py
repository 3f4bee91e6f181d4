"""Prompt sets that cannot overlap: a request's key decides by hash which set it belongs to.

`python -m avr.miniature.prompts` rebuilds data/*.jsonl byte for byte: `rsft` and `dpo` for Stage I,
`search` and `sample` for Stage II, `heldout` for evaluation. Order of
slots and wording are not part of the key, so no set holds a rewording of another set's prompt.
Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

from avr.miniature.vocabulary import CATEGORIES, COUNTS, OPENINGS
from avr.miniature.world import Request, Slot, render_prompt

DATA = Path(__file__).parent / "data"
NUM_PROMPTS = 800
#: Shipped set to the hash buckets it is drawn from, and how many of their prompts come before it.
#: A bucket has few prompts of two lists, and most of them come first: later sets are harder.
SETS = {
    "rsft": ("rsft", 0),
    "dpo": ("dpo", 0),
    "heldout": ("heldout", 0),
    "search": ("rsft", NUM_PROMPTS),
    "sample": ("dpo", NUM_PROMPTS),
}
#: Where the models' own training and its validation take prompts from.
MODEL_SETS = ("train", "valid")
#: Out of 100 hash buckets; what is left belongs to "train".
_SHARES = {"rsft": 8, "dpo": 8, "heldout": 8, "valid": 4}


def set_of(request: Request) -> str:
    """The buckets a request belongs to: rsft, dpo, heldout, valid or train."""
    bucket = int(hashlib.sha256(request.key.encode()).hexdigest(), 16) % 100
    for name, share in _SHARES.items():
        if bucket < share:
            return name
        bucket -= share
    return "train"


def draw_requests(name: str, rng: random.Random) -> Iterator[Request]:
    """Endless random requests of one set; repeats are possible."""
    while True:
        categories = rng.sample(list(CATEGORIES), rng.choice((2, 2, 3)))
        counts = list(COUNTS.values())
        slots = tuple(Slot(rng.choice(counts), category) for category in categories)
        request = Request(slots, rng.randrange(len(OPENINGS)))
        if set_of(request) == name:
            yield request


def build_lines(name: str, num_prompts: int = NUM_PROMPTS) -> str:
    """The text of a set's file: one {"id", "prompt"} object a line, no key twice."""
    buckets, num_before = SETS[name]
    unique: dict[str, Request] = {}
    for request in draw_requests(buckets, random.Random(f"miniature {buckets}")):
        unique.setdefault(request.key, request)
        if len(unique) == num_before + num_prompts:
            break
    rows = (
        {"id": f"{name}-{index:04d}", "prompt": render_prompt(request)}
        for index, request in enumerate(list(unique.values())[num_before:])
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


def read_prompts(name: str) -> list[str]:
    """The prompts of a shipped set, in file order."""
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


def main() -> None:
    """Write the files."""
    DATA.mkdir(exist_ok=True)
    for name in SETS:
        (DATA / f"{name}.jsonl").write_text(build_lines(name), encoding="utf-8")
        print(f"{NUM_PROMPTS} prompts -> {DATA / name}.jsonl")


if __name__ == "__main__":
    main()
