"""What can be known to be wrong with a model folder without loading it: JSON and names of files."""

import json
from pathlib import Path
from typing import Any

from avr.config import ConfigError
from avr.storage import Location, location, reached

TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "tiktoken.model",
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def check_model(name: str, model: str, *, scores: bool = False) -> None:
    """Raise ConfigError where the model that `name` sets is a folder that cannot be served.

    A hub name has one slash, and no folder of its owner here; what lies behind it is seen when it
    is loaded. `scores`: a reward model, which is a sequence classifier with one logit.
    """
    if not Path(model).parts:
        raise ConfigError(f"{name} is empty: it takes a folder or a hub name")
    folder = folder_of(model)
    if folder is None:
        return
    with reached(name, folder):
        _check_folder(name, model, folder, scores)


def folder_of(model: str) -> Location | None:
    """Return the folder that a model is, here or on an object store; None of a name of the Hub.

    A hub name has one slash at the most, and no folder of its owner here.
    """
    parts = Path(model).parts
    is_path = model.startswith((".", "/", "~")) or len(parts) > 2 or Path(parts[0]).is_dir()
    return location(model) if is_path or "://" in model else None


def _check_folder(name: str, model: str, folder: Location, scores: bool) -> None:
    if not (folder / "config.json").exists():
        raise ConfigError(f"{name}: no model folder at {model}")
    config = _object(name, folder / "config.json")
    _check_weights(name, folder)
    _check_tokenizer(name, folder)
    if scores:
        _check_classifier(name, folder, config)


def _check_weights(name: str, folder: Location) -> None:
    """Pickles are refused: to load one is to run what is in it."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(file.name for kind in PICKLES for file in folder.glob(kind))
    if pickles:
        raise ConfigError(
            f"{name}: {folder} holds pickled weights only ({pickles[0]}), which can run code when "
            "they are loaded; convert them to safetensors"
        )
    raise ConfigError(f"{name}: {folder} holds no .safetensors weights")


def _check_tokenizer(name: str, folder: Location) -> None:
    if not any((folder / file).exists() for file in TOKENIZERS):
        raise ConfigError(f"{name}: {folder} holds no tokenizer ({', '.join(TOKENIZERS[:3])}, ...)")
    file = folder / "tokenizer_config.json"
    settings = _object(name, file) if file.exists() else {}
    files = ("chat_template.jinja", "additional_chat_templates")
    if not settings.get("chat_template") and not any((folder / f).exists() for f in files):
        raise ConfigError(f"{name}: the tokenizer of {folder} has no chat template")


def _check_classifier(name: str, folder: Location, config: dict[str, Any]) -> None:
    kinds = config.get("architectures") or ["unknown"]
    if not kinds[0].endswith("ForSequenceClassification"):
        raise ConfigError(f"{name}: {folder} is a {kinds[0]}, not a sequence classifier")
    # Transformers leaves out its default, which is two.
    num_labels = len(config.get("id2label") or range(config.get("num_labels", 2)))
    if num_labels != 1:
        raise ConfigError(
            f"{name}: {folder} has {num_labels} labels; a Bradley-Terry reward model has one"
        )


def _object(name: str, file: Location) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{name}: {file} is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise ConfigError(f"{name}: {file} holds no JSON object")
    return read
