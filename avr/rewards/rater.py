"""Reward an answer by the rating that a generative model on a server gives it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from avr.config.errors import ConfigError
from avr.config.fields import SPEED_ONLY
from avr.config.prompts import PromptsConfig
from avr.config.rewards import JudgingConfig
from avr.config.roles import EndpointConfig
from avr.core.messages import Conversation, user
from avr.core.reward import Rater, Reply, Rubric
from avr.core.roles import TreeFault
from avr.core.tree import Prompt, Verdict
from avr.evaluation.endpoint import ChatEndpoint, check_endpoint
from avr.evaluation.judges import JudgeError
from avr.rewards.verifier import Verifier, needs

_FIRST_WORDS = "Write the number 5 and nothing else."
# As many as OpenAI's server and vLLM's give at the most; a rating is among the first.
_LOGPROBS = {"logprobs": True, "top_logprobs": 20}


@dataclass(frozen=True, kw_only=True)
class EndpointRater(Verifier):
    """Ask a model of an OpenAI-compatible server for a rating; see `avr.core.reward.Rater`.

    `at` is the place of its settings in the configuration. The request is the endpoint's, with
    `logprobs` and `top_logprobs` where it does not set them.
    """

    rubric: Rubric
    max_tries: int
    endpoint: EndpointConfig
    at: str = field(metadata=SPEED_ONLY)

    def check(self, prompts: PromptsConfig, at: str) -> None:
        """Raise ConfigError for a server that cannot be asked, or a rubric that lacks its field."""
        check_endpoint(self.endpoint, f"{self.at}.endpoint")
        if self.rubric.shows_reference:
            needs(prompts.reference_field, "reference_field", self, at)

    def reach(self) -> None:
        """Raise ConfigError where the server is not reached, or refuses what it would be asked.

        It is asked for one reply: a server without such a model, or one that gives no
        probabilities, would otherwise refuse every answer, after each was paid for.
        """

        async def reach() -> None:
            server = self._server()
            await server.reach()
            try:
                await server.reply((user(_FIRST_WORDS),))
            except JudgeError as error:
                raise ConfigError(
                    f"{self.at}.endpoint.request: {error}; we add logprobs and top_logprobs"
                    " (logprobs: false sends neither)"
                ) from error

        asyncio.run(reach())

    async def score(self, prompt: Prompt, answer: str) -> Verdict:
        """Return the expected rating as a share of the scale.

        Raises TreeFault where the server refuses this request, or no reply holds a rating.
        """
        return await Rater(self.name, self.rubric, self.max_tries, self._rate).score(prompt, answer)

    async def _rate(self, asked: Conversation) -> Reply:
        try:
            reply = await self._server().reply(asked)
        except JudgeError as error:
            raise TreeFault(str(error)) from error
        return reply.text, reply.tokens

    def _server(self) -> ChatEndpoint:
        """Return the running loop's client of the server: connections belong to one loop."""
        there = _CLIENTS.setdefault(asyncio.get_running_loop(), {})
        key = f"{self.at} {self.endpoint}"
        if key not in there:
            asked = replace(self.endpoint, request=_with_probabilities(self.endpoint.request))
            there[key] = ChatEndpoint(asked, f"{self.at}.endpoint")
        return there[key]


_CLIENTS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, ChatEndpoint]]
_CLIENTS = WeakKeyDictionary()


def _with_probabilities(request: Mapping[str, Any]) -> dict[str, Any]:
    # Some servers refuse `top_logprobs` where there are to be no `logprobs`.
    if request.get("logprobs") is False:
        return dict(request)
    return {**_LOGPROBS, **request}


def rater_of(at: str, name: str, config: JudgingConfig) -> EndpointRater:
    """Make the judge whose settings stand at `at`. Raises ConfigError, which names the setting."""
    judge = config.judge
    if judge is None or judge.endpoint is None:
        raise ConfigError(f"{at}.judge.endpoint is not set: which server has the judge?")
    try:
        rubric = Rubric(judge.rubric, judge.best)
    except ValueError as error:
        raise ConfigError(f"{at}.judge.{error}") from error
    return EndpointRater.of(
        name,
        config,
        rubric=rubric,
        max_tries=judge.max_tries,
        endpoint=judge.endpoint,
        at=f"{at}.judge",
    )
