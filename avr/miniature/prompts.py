"""Make prompt sets that cannot overlap: a request's key decides by hash which set it belongs to.

`python -m avr.miniature.prompts` rebuilds data/*.jsonl byte for byte: `rsft` and `dpo` for Stage I,
`search` and `sample` for Stage II, `heldout` for evaluation. Order of slots and wording are not
part of the key, so no set holds a rewording of another set's prompt. Standard library only.
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
#: Every sixth prompt of a set asks for two lists, the others for three: the mix is the same in all
#: sets and all through each of them. One in five would take 320 of the 282 that dpo's buckets have.
#: (Of the prompts that the models themselves are trained on, two of three have two lists.)
_TWO_LISTS_EVERY = 6
#: Maps a shipped set to the hash buckets it is drawn from, and to how many sets come before it
#: there.
SETS = {
    "rsft": ("rsft", 0),
    "dpo": ("dpo", 0),
    "heldout": ("heldout", 0),
    "search": ("rsft", 1),
    "sample": ("dpo", 1),
}
#: The sets from which the models' own training and its validation take prompts.
MODEL_SETS = ("train", "valid")
#: Shares of 100 hash buckets; the rest belongs to "train".
_SHARES = {"rsft": 8, "dpo": 8, "heldout": 8, "valid": 4}


def set_of(request: Request) -> str:
    """Return the buckets a request belongs to: rsft, dpo, heldout, valid or train."""
    bucket = int(hashlib.sha256(request.key.encode()).hexdigest(), 16) % 100
    for name, share in _SHARES.items():
        if bucket < share:
            return name
        bucket -= share
    return "train"


def draw_requests(name: str, rng: random.Random) -> Iterator[Request]:
    """Draw endless random requests of one set; repeats are possible."""
    while True:
        categories = rng.sample(list(CATEGORIES), rng.choice((2, 2, 3)))
        counts = list(COUNTS.values())
        slots = tuple(Slot(rng.choice(counts), category) for category in categories)
        request = Request(slots, rng.randrange(len(OPENINGS)))
        if set_of(request) == name:
            yield request


def build_lines(name: str, num_prompts: int = NUM_PROMPTS) -> str:
    """Build the text of a set's file: one {"id", "prompt"} object a line, no key twice."""
    buckets, num_sets_before = SETS[name]
    num_lists = [2 if index % _TWO_LISTS_EVERY == 0 else 3 for index in range(num_prompts)]
    unique: dict[int, dict[str, Request]] = {2: {}, 3: {}}
    needed = {n: (num_sets_before + 1) * num_lists.count(n) for n in unique}
    requests = draw_requests(buckets, random.Random(f"miniature {buckets}"))
    while any(len(unique[n]) < needed[n] for n in unique):
        request = next(requests)
        unique[len(request.slots)].setdefault(request.key, request)
    own = {n: iter([*unique[n].values()][needed[n] - num_lists.count(n) :]) for n in unique}
    rows = (
        {"id": f"{name}-{index:04d}", "prompt": render_prompt(next(own[n]))}
        for index, n in enumerate(num_lists)
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


def read_prompts(name: str) -> list[str]:
    """Read the prompts of a shipped set, in file order."""
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


def main() -> None:
    """Write the files of all shipped sets."""
    DATA.mkdir(exist_ok=True)
    for name in SETS:
        (DATA / f"{name}.jsonl").write_text(build_lines(name), encoding="utf-8")
        print(f"{NUM_PROMPTS} prompts -> {DATA / name}.jsonl")


if __name__ == "__main__":
    main()
