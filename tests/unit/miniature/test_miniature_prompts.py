"""The shipped prompt sets: rebuilt byte for byte, and disjoint up to wording and order."""

import itertools
import json
import random

import pytest

from avr.miniature.making.measures import num_shared_prompts
from avr.miniature.prompts import (
    DATA,
    MODEL_SETS,
    SETS,
    build_lines,
    draw_requests,
    read_prompts,
    set_of,
)
from avr.miniature.world import parse_prompt


@pytest.mark.parametrize("name", SETS)
def test_shipped_file_is_what_the_code_builds(name: str) -> None:
    assert (DATA / f"{name}.jsonl").read_text(encoding="utf-8") == build_lines(name)


@pytest.mark.parametrize("name", SETS)
def test_shipped_file_has_800_prompts_with_unique_ids(name: str) -> None:
    rows = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len({row["prompt"] for row in rows}) == 800
    assert all(list(row) == ["id", "prompt"] for row in rows)


@pytest.mark.parametrize("name", SETS)
def test_every_sixth_prompt_of_any_set_asks_for_two_lists(name: str) -> None:
    requests = [parse_prompt(prompt) for prompt in read_prompts(name)]
    num_lists = [len(request.slots) for request in requests if request]
    assert num_lists == [2 if index % 6 == 0 else 3 for index in range(800)]


def test_shipped_sets_share_no_request() -> None:
    assert num_shared_prompts() == 0


def test_drawn_sets_share_no_request() -> None:
    keys = {
        name: {
            request.key for request in itertools.islice(draw_requests(name, random.Random(1)), 2000)
        }
        for name in {*(buckets for buckets, _ in SETS.values()), *MODEL_SETS}
    }
    for one, other in itertools.combinations(keys, 2):
        assert not keys[one] & keys[other]


def test_set_of_is_the_same_for_every_wording() -> None:
    texts = [
        "List (a) three fruits and (b) two tools.",
        "Can you list (a) two tools and (b) three fruits?",
    ]
    requests = [parse_prompt(text) for text in texts]
    assert len({set_of(request) for request in requests if request}) == 1
