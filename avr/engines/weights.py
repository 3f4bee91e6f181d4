"""What identifies a model: ids of trees and ledger entries change when its weights do."""

import hashlib

from avr.core.messages import content_id
from avr.storage import fetched, is_remote, location

_EDGE = 1 << 20


def weights_id(model: str) -> str:
    """An id of a model folder from its content, of a hub model from its name.

    Content is config, tokenizer and chat template plus name, size, first and last MiB of every
    weight file: enough to tell two trainings apart, and seconds rather than minutes for a 70B
    model. Moving a folder keeps its id.
    Raises FileNotFoundError for a folder without weights.
    """
    folder = location(model)
    if not folder.is_dir():
        if is_remote(folder) or folder.is_absolute() or model.startswith("."):
            raise FileNotFoundError(f"no model folder at {model}")
        return content_id("hub", model)
    files = sorted(folder.glob("*.safetensors"), key=str)
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
    """What vLLM and Transformers load: a hub name or folder as it is, of a store a copy here."""
    folder = location(model)
    if is_remote(folder):
        return str(fetched(folder, weights_id(model)))
    return str(folder) if "://" in model else model
