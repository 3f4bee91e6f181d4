"""Identify a model by its weights: ids of trees and ledger entries change when these do."""

import hashlib
import re
from pathlib import Path

from avr.core.messages import content_id
from avr.storage import Location, fetched, is_remote, location

_EDGE = 1 << 20
_PINNED = re.compile(r"(?P<name>\w[\w.-]*(/[\w.-]+)?)@(?P<revision>\w[\w./-]*)")
# The files of a pinned hub model that are downloaded. Pickles, which can run code, are not, nor is
# a second copy of the weights in `original/`.
_LOADED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.py")


def hub_name(model: str) -> tuple[str, str | None]:
    """Split `NAME@REVISION` of a hub model into its name and the commit, tag or branch, or None.

    Anything else comes back whole: a folder, whose path may hold an @, a URL, a plain name.
    """
    found = _PINNED.fullmatch(model)
    if found is None or Path(Path(model).parts[0]).is_dir():
        return model, None
    return found["name"], found["revision"]


def weights_id(model: str) -> str:
    """Return an id of a model: of a folder's content, or of a hub model's name and revision.

    Content is config, tokenizer and chat template plus name, size, first and last MiB of every
    weight file: enough to tell two trainings apart, and seconds rather than minutes for a 70B
    model. Moving a folder keeps its id. Raises FileNotFoundError for a folder without weights.
    """
    folder = location(model)
    if not folder.is_dir():
        if is_remote(folder) or folder.is_absolute() or model.startswith("."):
            raise FileNotFoundError(f"no model folder at {model}")
        return content_id("hub", model)
    files: list[Location] = sorted(folder.glob("*.safetensors"), key=str)
    if not files:
        raise FileNotFoundError(f"{model} holds no .safetensors weights")
    digest = hashlib.blake2b(digest_size=12)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    for file in files:
        digest.update(f"{file.name}:{file.stat().st_size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_EDGE))
            stream.seek(max(0, file.stat().st_size - _EDGE))
            digest.update(stream.read(_EDGE))
    return digest.hexdigest()


def local_model(model: str) -> str:
    """Return the model as vLLM and Transformers load it: a hub name, or a folder on this node.

    A model on an object store is copied here. A hub model with a revision is downloaded as a
    folder, which all that load it then have in common: weights, tokenizer and configuration are of
    that revision for everyone. (vLLM's reload and TRL's look for the architecture would forget a
    revision that they were told.) Raises errors of huggingface_hub.
    """
    name, revision = hub_name(model)
    if revision is not None:
        from huggingface_hub import snapshot_download

        return str(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(_LOADED),
                ignore_patterns=["original/*"],
            )
        )
    folder = location(model)
    if is_remote(folder):
        return str(fetched(folder, weights_id(model)))
    return str(folder) if "://" in model else model
