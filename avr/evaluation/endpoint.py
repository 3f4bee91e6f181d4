"""Ask an OpenAI-compatible server as a judge: requests and retries."""

import os
from typing import Any

from openai import APIStatusError, AsyncOpenAI, Omit, OpenAIError
from openai.types.chat import ChatCompletion

from avr.config.answers import OPENAI, EndpointConfig
from avr.config.errors import ConfigError
from avr.evaluation.judges import JudgeError, Reply

# Status codes about one request: too long for the model, refused for its content, malformed.
_OF_THE_REQUEST = (400, 413, 422)
# Status codes about all requests: the key, the address or the model is wrong.
_OF_THE_SETTINGS = (401, 403, 404, 405)


class EndpointError(RuntimeError):
    """Signal a server that fails or is not reached after all retries, for any duel."""


class ChatEndpoint:
    """Ask one model of a server. An instance belongs to one event loop."""

    def __init__(self, endpoint: EndpointConfig):
        endpoint.check_address()
        self._endpoint = endpoint
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

    async def ask(self, system: str, user: str) -> Reply:
        """Ask the model, and return its reply.

        Raises JudgeError where the server refuses this one request, ConfigError where it would
        refuse any request, and EndpointError where it fails or cannot be reached.
        """
        request = dict(self._endpoint.request)
        headers = {**self._unsent, **request.pop("extra_headers", {})}
        messages: Any = [
            {"role": "system", "content": system},
            {"role": "user", "content": user},
        ]
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
                variable = endpoint.key_variable
                if variable is None:
                    words += " (no key is sent: judge.endpoint.api_key_variable is not set)"
                elif not os.environ.get(variable):
                    words += f" ({variable} is not set on {os.uname().nodename})"
                raise ConfigError(words) from error
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
        return Reply(answer.choices[0].message.content or "", answer.model, read, written)
