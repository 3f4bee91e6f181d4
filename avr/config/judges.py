"""Choose who compares two answers."""

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from avr.config.errors import ConfigError
from avr.config.fields import at_least, speed_only
from avr.config.roles import RoleConfig


class JudgeKind(Enum):
    """Who compares two answers."""

    endpoint = "endpoint"
    reward_model = "reward_model"
    oracle = "oracle"


OPENAI = "https://api.openai.com/v1"


@dataclass
class EndpointConfig:
    """An OpenAI-compatible server.

    `api_key_variable` names the environment variable that holds the key. Unset, it is
    OPENAI_API_KEY at OpenAI's own address, and at any other no key is sent. `request` (temperature,
    max_tokens, ...) goes into each request under the server's own names. A request is repeated
    `max_retries` times after a lost connection, a server's error or a rate limit, and a reply
    without a verdict asked for `max_tries` times in all. Prices are per million tokens. How many
    duels are judged at a time is `queries.max_queries_in_flight`.
    """

    base_url: str = OPENAI
    model: str | None = None
    api_key_variable: str | None = speed_only(default=None)
    request: dict[str, Any] = field(default_factory=lambda: {"temperature": 0.0})
    max_retries: int = at_least(0, 6, speed=True)
    max_tries: int = at_least(1, 3)
    timeout_s: float = at_least(1, 300.0, speed=True)
    price_prompt: float = at_least(0, 0.0, speed=True)
    price_completion: float = at_least(0, 0.0, speed=True)

    @property
    def key_variable(self) -> str | None:
        """The environment variable whose value is sent as the key; None where no key is sent."""
        if self.api_key_variable is None and self.base_url.rstrip("/") == OPENAI:
            return "OPENAI_API_KEY"
        return self.api_key_variable or None

    def check_address(self) -> None:
        """Raise ConfigError for what is no address, or one to which a key would go in the clear."""
        there = urlsplit(self.base_url)
        if there.scheme not in ("http", "https") or not there.hostname:
            raise ConfigError(
                f"judge.endpoint.base_url is {self.base_url!r}, and not of the form https://HOST/v1"
            )
        if self.key_variable and there.scheme == "http" and not _is_loopback(there.hostname):
            raise ConfigError(
                f"judge.endpoint.base_url: the key in {self.key_variable} would go to "
                f"{there.hostname} unencrypted; use https://, or name no api_key_variable"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass
class JudgeConfig:
    """One judge. `oracle` is a "module:function" as in `EvaluationConfig`.

    `reward_model` should be one that nothing was trained or selected with.
    """

    kind: JudgeKind = JudgeKind.endpoint
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    reward_model: RoleConfig | None = None
    oracle: str | None = None
