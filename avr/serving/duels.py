"""Judge duels in Ray tasks; each result is kept at once, so that time and money are spent once."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from avr.config.answers import DuelEndpointConfig
from avr.core.messages import from_dicts, to_dicts
from avr.core.reward import Rewarding
from avr.core.roles import TreeFault
from avr.evaluation.endpoint import ChatEndpoint
from avr.evaluation.judged import load_oracle
from avr.evaluation.judges import (
    Duel,
    EndpointJudge,
    Judge,
    JudgeError,
    OracleJudge,
    Preference,
    RewardJudge,
    without_asking,
)
from avr.serving.journal import Query

PREFERENCES = pa.schema(
    [
        ("id", pa.string()),
        ("value", pa.float64()),
        ("verdicts", pa.list_(pa.string())),
        ("model", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("quarantined", pa.string()),
    ]
)


def duel_queries(duels: Iterable[Duel]) -> Iterable[Query]:
    """Make one query of each duel; equal duels become one."""
    for duel in {duel.id: duel for duel in duels}.values():
        fields = {"prompt": to_dicts(duel.prompt), "baseline": duel.baseline, "ours": duel.ours}
        yield {"id": duel.id, **fields}


@dataclass
class JudgeDuels:
    """Work on one duel, by one of the three judges; this value travels to the tasks.

    A duel that a judge has no verdict about comes back with the reason.
    """

    endpoint: DuelEndpointConfig | None = None
    rewarding: Rewarding | None = None
    oracle: str | None = None

    @cached_property
    def judge(self) -> Judge:
        """Return the judge, made in the process that asks for it: connections do not travel."""
        if self.endpoint is not None:
            asked = ChatEndpoint(self.endpoint, "judge.endpoint")
            return EndpointJudge(asked.ask, self.endpoint.max_tries)
        if self.rewarding is not None:
            return RewardJudge(self.rewarding)
        oracle = load_oracle(self.oracle)
        assert oracle is not None
        return OracleJudge(oracle)

    async def __call__(self, query: Query) -> Query:
        """Judge a duel; return the preference as a row of `PREFERENCES`."""
        duel = Duel(from_dicts(query["prompt"]), query["baseline"], query["ours"])
        row: dict[str, Any] = {"id": query["id"], "quarantined": ""}
        try:
            preference = without_asking(duel) or await self.judge.prefer(duel)
        except JudgeError as error:
            # A judge without a verdict has used tokens all the same: they are counted.
            cost = Preference(0.0, (), "", error.prompt_tokens, error.completion_tokens)
            return row | asdict(cost) | {"quarantined": str(error)}
        except TreeFault as error:
            return row | asdict(Preference(0.0)) | {"quarantined": str(error)}
        verdicts = [verdict.value for verdict in preference.verdicts]
        return row | asdict(preference) | {"verdicts": verdicts}
