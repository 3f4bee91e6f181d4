"""The work on one duel: what is judged, and what comes back without a verdict."""

import asyncio

import pytest

from avr.config.errors import ConfigError
from avr.core.messages import to_dicts, user
from avr.evaluation.judges import EndpointJudge, Reply
from avr.serving.duels import JudgeDuels

PROMPT = to_dicts((user("Name a fruit."),))


async def without_a_verdict(system, shown):
    return Reply("hm", "scripted-1", 100, 10)


@pytest.mark.parametrize(
    ("baseline", "ours", "value"), [("a", " ", 1), ("", "a", 2), ("", "\n", 1.5)]
)
def test_an_answer_that_is_not_there_loses_and_nobody_is_asked(baseline, ours, value):
    query = {"id": "1", "prompt": PROMPT, "baseline": baseline, "ours": ours}
    row = asyncio.run(JudgeDuels(oracle="nobody:knows")(query))
    assert (row["value"], row["quarantined"]) == (value, "")
    with pytest.raises(ConfigError, match="nobody:knows"):  # who would have been asked
        asyncio.run(JudgeDuels(oracle="nobody:knows")(query | {"baseline": "a", "ours": "b"}))


def test_a_duel_without_a_verdict_comes_back_with_the_reason_and_what_it_cost():
    work = JudgeDuels()
    work.judge = EndpointJudge(without_a_verdict, max_tries=1)
    query = {"id": "1", "prompt": PROMPT, "baseline": "a", "ours": "b"}
    row = asyncio.run(work(query))
    assert "held no verdict" in row["quarantined"]
    assert (row["prompt_tokens"], row["completion_tokens"]) == (200, 20)
