"""Ask an OpenAI-compatible server as a judge: requests and retries."""

import os
from typing import Any

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, Omit, OpenAIError
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from avr.config.errors import ConfigError
from avr.config.roles import OPENAI, EndpointConfig
from avr.core.messages import Conversation, Message, to_dicts, user
from avr.core.ratings import Token
from avr.evaluation.judges import JudgeError, Reply

# Status codes about one request: too long for the model, refused for its content, malformed.
_OF_THE_REQUEST = (400, 413, 422)
# Status codes about all requests: the key, the address or the model is wrong.
_OF_THE_SETTINGS = (401, 403, 404, 405)
_REACHED_WITHIN_S = 10.0


class EndpointError(RuntimeError):
    """Signal a server that fails or is not reached after all retries, for any request."""


def check_endpoint(endpoint: EndpointConfig, at: str) -> None:
    """Raise ConfigError for settings that no server could be asked by, or a key that is not there.

    `at` is their place in the configuration. It is looked for before anything is paid for.
    """
    if not endpoint.model:
        raise ConfigError(f"{at}.model is not set: which model is to judge?")
    endpoint.check_address(at)
    variable = endpoint.key_variable
    if variable and not os.environ.get(variable):
        raise ConfigError(
            f"{variable} is not set: it must hold the key for {endpoint.base_url} ({at})"
        )


class ChatEndpoint:
    """Ask one model of a server. An instance belongs to one event loop.

    `at` is the place of its settings in the configuration.
    """

    def __init__(self, endpoint: EndpointConfig, at: str):
        endpoint.check_address(at)
        self._endpoint = endpoint
        self._at = at
        key = os.environ.get(endpoint.key_variable or "", "")
        # The client takes OpenAI's organization and project from the environment; no other server
        # may see them.
        own = endpoint.base_url.rstrip("/") == OPENAI
        unsent = () if own else ("OpenAI-Organization", "OpenAI-Project")
        self._unsent = dict.fromkeys(unsent if key else (*unsent, "Authorization"), Omit())
        self._client = AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=key or "none",  # the client insists on one; without ours the header is left out
            max_retries=endpoint.max_retries,
            timeout=endpoint.timeout_s,
        )

    async def reach(self) -> None:
        """Raise ConfigError where nobody answers at the address, or the key is refused.

        It asks for the server's list of models; a server that has none is there all the same.
        """
        client = self._client.with_options(max_retries=1, timeout=_REACHED_WITHIN_S)
        where = f"{self._at}.base_url: {self._endpoint.base_url}"
        try:
            await client.models.list(extra_headers=self._unsent)
        except APIConnectionError as error:
            raise ConfigError(f"{where} is not reached: {error.__cause__ or error}") from error
        except APIStatusError as error:
            if error.status_code == 401:
                raise ConfigError(f"{where} {self._refused(error)}") from error
        except (OpenAIError, ValueError):
            pass  # a page in the place of a list

    async def ask(self, system: str, request: str) -> Reply:
        """Ask the model for its reply to a request under a system text; see `reply`."""
        return await self.reply((Message("system", system), user(request)))

    async def reply(self, conversation: Conversation) -> Reply:
        """Return the model's reply to a conversation.

        Raises JudgeError where the server refuses this one request, ConfigError where it would
        refuse any request, and EndpointError where it fails or cannot be reached.
        """
        request = dict(self._endpoint.request)
        headers = {**self._unsent, **request.pop("extra_headers", {})}
        messages: Any = to_dicts(conversation)
        endpoint = self._endpoint
        where = f"the judge {endpoint.model} at {endpoint.base_url}"
        try:
            answer = await self._client.chat.completions.create(
                model=endpoint.model or "", messages=messages, extra_headers=headers, **request
            )
        except APIStatusError as error:
            words = f"{where} answers {error.status_code}: {error.message}"
            if error.status_code in _OF_THE_REQUEST:
                raise JudgeError(words) from error
            if error.status_code in _OF_THE_SETTINGS:
                raise ConfigError(f"{where} {self._refused(error)}") from error
            raise EndpointError(words) from error
        except OpenAIError as error:
            cause = error.__cause__ or error
            tries = 1 + endpoint.max_retries
            raise EndpointError(f"{where} did not answer, {tries} times: {cause}") from error
        except ValueError as error:  # the reply is a page that is no JSON
            raise ConfigError(f"{where} did not return a chat completion: {error}") from error
        if not isinstance(answer, ChatCompletion) or not answer.choices:
            raise ConfigError(f"{where} did not return a chat completion: {str(answer)[:200]!r}")
        usage = answer.usage
        read, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        first = answer.choices[0]
        return Reply(first.message.content or "", answer.model, read, written, _tokens(first))

    def _refused(self, error: APIStatusError) -> str:
        variable = self._endpoint.key_variable
        words = f"answers {error.status_code}: {error.message}"
        if variable is None:
            return f"{words} (no key is sent: {self._at}.api_key_variable is not set)"
        if not os.environ.get(variable):
            return f"{words} ({variable} is not set on {os.uname().nodename})"
        return words


def _tokens(choice: Choice) -> tuple[Token, ...]:
    """Return the tokens of a reply, where the server gives their log probabilities."""
    written = (choice.logprobs.content if choice.logprobs else None) or ()
    return tuple(
        Token.of(each.token, each.logprob, ((o.token, o.logprob) for o in each.top_logprobs or ()))
        for each in written
    )
