"""What is true of every configuration: no value below its least, no place for a secret."""

import re
from dataclasses import fields, is_dataclass
from typing import Any

from avr.config import ConfigError

_SECRET = re.compile(r"api_?key|access_?key|password|passwd|secret|credential|(^|_)token$")
_NO_SECRET = re.compile(r"^(bos|cls|eos|image|mask|pad|sep|stop|unk)_token$")
_NOT_SHOWN = ("env", "env_vars")  # whose values are not written down


def check_secrets(settings: Any, path: str) -> None:
    """Raise ConfigError where settings, which are written down, have a place for a secret."""
    items = settings.items() if isinstance(settings, dict) else enumerate(settings)
    for key, value in items:
        name = f"{path}.{key}"
        words = str(key).lower()
        if isinstance(value, str) and _SECRET.search(words) and not _NO_SECRET.match(words):
            raise ConfigError(
                f"{name} cannot be set: a secret belongs into the environment, settings are "
                "written down"
            )
        if isinstance(value, dict | list) and key not in _NOT_SHOWN:
            check_secrets(value, name)


def check_values(config: Any, path: str = "") -> None:
    """Raise ConfigError for a value below its least, or one like a secret, at any depth."""
    for each in fields(config):
        name, value = f"{path}{each.name}", getattr(config, each.name)
        if is_dataclass(value):
            check_values(value, f"{name}.")
        elif isinstance(value, dict) and each.name not in _NOT_SHOWN:
            check_secrets(value, name)
        elif value is not None and "least" in each.metadata:
            least = each.metadata["least"]
            if not value >= least:  # so that NaN is refused as well
                raise ConfigError(f"{name} is {value}, must be at least {least}")
            most = each.metadata.get("most")
            if most is not None and value > most:
                raise ConfigError(f"{name} has {len(str(value))} digits, must be at most {most}")
