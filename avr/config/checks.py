"""Check every configuration: no value out of its bounds, no place for a secret."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from avr.config.errors import ConfigError

_WORDS = (
    r"api_?key|(access|private|signing|secret|account)_?key|(access|auth|session|refresh)_?token"
    r"|passw(or)?d|passphrase|secret|credential|bearer|^(proxy_)?authorization$|^(set_)?cookie$"
)
_SECRET = re.compile(rf"{_WORDS}|(^|_)token$")
_IN_HEADERS = re.compile(rf"{_WORDS}|(^|_)(auth|code|key|pass|pwd?|token)$")
_NO_SECRET = re.compile(r"^(bos|cls|eos|image|mask|pad|sep|stop|unk)_token$")
_NOT_SHOWN = ("env",)  # a role's field: its values are not written down, here or by Ray
# Parameters of an address that sign it (a presigned URL opens what it names) or name a secret.
_IN_QUERY = re.compile(rf"{_WORDS}|(^|_)(auth|code|key|pass|pwd?|sig|signature|token)$")
# By what a setting's name holds: which of its keys are names of secrets.
_PLACES = (("headers.", _IN_HEADERS), ("query.", _IN_QUERY))
_PARAMETER = re.compile(r"[?&]([^=&#\s]+)=[^&#\s]")
_USER = re.compile(r"(https?|ftps?)://[^/?#\s@]+@|://[^/?#\s@:]*:[^/?#\s@]+@", re.IGNORECASE)
_HEADER = re.compile(  # "token counting" is none
    r"\s*((bearer|basic)\s+|(token|apikey)\s+(?=\S*\d))\S{8,}\s*", re.IGNORECASE
)
# Keys of OpenAI and others, Hugging Face, GitHub, GitLab, Slack, AWS, Google, by their beginnings.
_KEY = re.compile(
    r"(?<![\w/-])(sk-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|gh[opsur]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|xox[abpr]-[\w-]{10,}|(AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,})"
)
_SERVER = re.compile(r"\S*\bjudge\.endpoint\b")  # the place of a server's settings
_SHORTEST = 8  # characters; a variable with a shorter value ("none", "true") holds no secret
_ADVICE = "put secrets in environment variables: settings are written to files"
_WHERE = {  # beginning of a setting's name -> the place where such a secret belongs
    "ray.runtime_env": "Ray logs this one on each node; set variables where Ray starts"
    " (PIP_EXTRA_INDEX_URL for an index), or in `env` of a role",
    "prompts": "s3:// and gs:// are read with the credentials of the environment",
}


def check_secrets(settings: Any, path: str) -> None:
    """Raise ConfigError for settings that hold a secret or have a place for one.

    Settings are written down. A name counts as a secret's in any spelling: `x-api-key` and
    `X_Api_Key` are alike. A value is compared with the usual forms of secrets, and with the secrets
    in the environment, so that one inserted by `${oc.env:NAME}` is found as well.
    """
    if isinstance(settings, str):
        _check_text(settings, path)
        return
    if not isinstance(settings, dict | list):
        return
    items = settings.items() if isinstance(settings, dict) else enumerate(settings)
    for key, value in items:
        name = f"{path}.{key}"
        if isinstance(settings, dict):
            _check_key(str(key), value, name)
        check_secrets(value, name)


def _check_key(key: str, value: Any, name: str) -> None:
    words = re.sub(r"[-. ]", "_", key).lower()
    secret = next((words for place, words in _PLACES if place in name), _SECRET)
    if not secret.search(words) or _NO_SECRET.match(words):
        return
    number = isinstance(value, int) and not isinstance(value, bool)
    some = bool(value) and isinstance(value, list) and all(isinstance(v, str) for v in value)
    if isinstance(value, str) or some or (number and not words.endswith("token")):
        raise ConfigError(f"{name} cannot be set: {_advice(name)}")


def _check_text(text: str, name: str) -> None:
    found = next(_secrets_in(text, os.environ), None)
    if found is not None:
        raise ConfigError(f"{name} holds {found}: {_advice(name)}")


def _advice(name: str) -> str:
    where = next((words for at, words in _WHERE.items() if name.startswith(at)), "")
    if server := _SERVER.match(name):
        where = f"{server.group()}.api_key_variable names the variable that holds a key"
    return f"{_ADVICE}; {where}" if where else _ADVICE


def _secrets_in(text: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Describe each part of a text that looks like a secret, without repeating it."""
    if _USER.search(text):
        yield "an address with a user or a password"
    if "://" in text:
        for parameter in _PARAMETER.findall(text):
            if _IN_QUERY.search(re.sub(r"[-.]", "_", parameter).lower()):
                yield f"an address with {parameter}=..."
    if _HEADER.fullmatch(text):
        yield "an authorization header"
    if _KEY.search(text):
        yield "a text that looks like a key"
    for variable, value in environment.items():
        if _is_secret_variable(variable, value) and value in text:
            yield f"the value of the environment variable {variable}"


def _is_secret_variable(variable: str, value: str) -> bool:
    """Tell by its name whether a variable holds a secret; a path of a credentials file is none."""
    words = variable.lower()
    named = _SECRET.search(words) or words.endswith(("_key", "_pass", "_pw"))
    if not named or len(value) < _SHORTEST:
        return False
    path = Path(value)
    return not (value[0] in "/~." and (path.suffix or path.expanduser().exists()))


def check_values(config: Any, path: str = "") -> None:
    """Raise ConfigError for a value out of its bounds, or one like a secret, at any depth."""
    for each in fields(config):
        name, value = f"{path}{each.name}", getattr(config, each.name)
        if is_dataclass(value):
            check_values(value, f"{name}.")
        elif isinstance(value, dict) and any(map(is_dataclass, value.values())):
            for key, one in value.items():
                check_values(one, f"{name}.{key}.")
        elif isinstance(value, dict | list | str):
            if each.name not in _NOT_SHOWN:
                check_secrets(value, name)
        elif value is not None and "least" in each.metadata:
            least = each.metadata["least"]
            if not value >= least:  # so that NaN is refused as well
                raise ConfigError(f"{name} is {value}, must be at least {least}")
            most = each.metadata.get("most")
            if most is not None and value > most:
                raise ConfigError(f"{name} has {len(str(value))} digits, must be at most {most}")
