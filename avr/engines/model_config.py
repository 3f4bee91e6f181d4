"""Read a model's description of itself without its weights: JSON in a folder, store or the Hub."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from avr.config.errors import ConfigError
from avr.engines.weights import hub_name
from avr.storage import Location, location, reached, read_bytes

# The time for the one request that shows whether the Hub can be reached.
PROBE_S = 10.0


class ModelConfigError(ConfigError):
    """Signal a model that cannot be read; the message names it and says what would be right."""


class HubUnreachableError(ModelConfigError):
    """Signal a Hub name that nobody could look up: offline, no connection, or the Hub is down."""

    def __init__(self, name: str, why: str):
        super().__init__(f"{name} could not be looked at: {why}")
        self.why = why


def folder_of(model: str) -> Location | None:
    """Return the folder that a model is, here or on an object store; None for a name of the Hub.

    A hub name has one slash at the most, and no folder of its owner here, and may end in @REVISION.
    """
    model, revision = hub_name(model)
    if revision is not None:
        return None
    parts = Path(model).parts
    is_path = model.startswith((".", "/", "~")) or len(parts) > 2 or Path(parts[0]).is_dir()
    return location(model) if is_path or "://" in model else None


def read_config(model: str) -> Mapping[str, Any]:
    """Read the config.json of a model: from its folder, an object store, or the Hub.

    Files of the Hub are asked for once a process, and offline taken from its cache on this machine.
    Raises ModelConfigError where there is none, HubUnreachableError where nobody could look.
    """
    config = read_json(model, "config.json")
    if config is None:
        raise ModelConfigError(f"{model} has no config.json: it is no model of Transformers")
    return config


def has_chat_template(model: str) -> bool:
    """Say whether the tokenizer of a model brings a chat template. Raises like `read_config`."""
    settings = read_json(model, "tokenizer_config.json") or {}
    if settings.get("chat_template"):
        return True
    folder = folder_of(model)
    if folder is not None:
        names = ("chat_template.jinja", "additional_chat_templates")
        with reached(model, folder):
            return any((folder / name).exists() for name in names)
    return _from_hub(*hub_name(model), "chat_template.jinja") is not None


def read_json(model: str, file: str) -> Mapping[str, Any] | None:
    """Read a JSON object among a model's files; None where the model has no such file.

    Raises like `read_config`, and ModelConfigError for a file that holds no JSON object.
    """
    folder = folder_of(model)
    if folder is not None:
        with reached(model, folder):
            return _object(folder / file) if (folder / file).exists() else None
    there = _from_hub(*hub_name(model), file)
    return None if there is None else _object(there)


def _object(file: Location) -> Mapping[str, Any]:
    try:
        read = json.loads(read_bytes(file))
    except ValueError as error:
        raise ModelConfigError(f"{file} is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise ModelConfigError(f"{file} holds no JSON object")
    return read


@cache
def _from_hub(model: str, revision: str | None, file: str) -> Path | None:
    """Fetch a file of a Hub model into this machine's cache; None where the model has none."""
    from huggingface_hub import errors, hf_hub_download
    from huggingface_hub.constants import ENDPOINT

    offline = hub_out_of_reach()
    try:
        path = hf_hub_download(model, file, revision=revision, local_files_only=bool(offline))
    except errors.HFValidationError as error:
        raise ModelConfigError(f"{model} is neither a folder here nor a name of the Hub") from error
    except errors.RemoteEntryNotFoundError:
        return None
    except errors.RevisionNotFoundError as error:
        raise ModelConfigError(f"{model} has no revision {revision}") from error
    except errors.GatedRepoError as error:
        raise ModelConfigError(
            f"{model} is gated: accept its terms at {ENDPOINT}/{model} and set HF_TOKEN to a token"
            " of that account"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelConfigError(
            f"there is no model {model} on the Hub, or it is private and HF_TOKEN gives no access"
        ) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        status = _status(error) or _status(error.__cause__)
        if status is not None and 400 <= status < 500 and status not in (408, 429):
            raise ModelConfigError(
                f"the Hub refuses {model} (HTTP {status}): is HF_TOKEN right?"
            ) from error
        why = offline or f"the Hub does not answer: {one_line(error.__cause__ or error)}"
        raise HubUnreachableError(model, why) from error
    return Path(path)


@cache
def hub_out_of_reach() -> str:
    """Say why the Hub cannot be asked, or return "".

    It is tried once in a process: a failing try can take seconds.
    """
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=PROBE_S)
    except Exception as error:  # httpx, proxies and certificates have their own
        return f"no connection to {constants.ENDPOINT}: {one_line(error)}"
    return ""


def _status(error: BaseException | None) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def one_line(error: BaseException) -> str:
    """Put an error into one line: its type and the first line of its words."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
