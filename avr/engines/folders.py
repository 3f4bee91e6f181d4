"""Find faults of a model folder without loading the model: in JSON and in the names of files."""

from pathlib import Path

from avr.config.errors import ConfigError
from avr.engines.model_config import ModelConfigError, folder_of, has_chat_template, read_config
from avr.engines.shape import check_classifier
from avr.engines.weights import hub_name
from avr.storage import Location, reached

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

    A name of the Hub is not looked up here. `scores`: a reward model, which is a sequence
    classifier with one logit.
    """
    if not Path(model).parts:
        raise ConfigError(f"{name} is empty: it takes a folder or a hub name")
    folder = folder_of(model)
    if folder is None:
        if "@" in hub_name(model)[0]:
            raise ConfigError(f"{name} is {model!r}: a hub model at a revision is NAME@REVISION")
        return
    with reached(name, folder):
        _check_folder(name, model, folder, scores)


def _check_folder(name: str, model: str, folder: Location, scores: bool) -> None:
    if not (folder / "config.json").exists():
        raise ConfigError(f"{name}: no model folder at {model}")
    try:
        config = read_config(model)
        _check_weights(name, folder)
        _check_tokenizer(name, folder, model)
    except ModelConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    if scores:
        check_classifier(name, str(folder), config)


def _check_weights(name: str, folder: Location) -> None:
    """Raise ConfigError for a folder without safetensors.

    Pickles are refused: to load one is to run the code in it.
    """
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(file.name for kind in PICKLES for file in folder.glob(kind))
    if pickles:
        raise ConfigError(
            f"{name}: {folder} holds pickled weights only ({pickles[0]}), which can run code when "
            "they are loaded; convert them to safetensors"
        )
    raise ConfigError(f"{name}: {folder} holds no .safetensors weights")


def _check_tokenizer(name: str, folder: Location, model: str) -> None:
    if not any((folder / file).exists() for file in TOKENIZERS):
        raise ConfigError(f"{name}: {folder} holds no tokenizer ({', '.join(TOKENIZERS[:3])}, ...)")
    if not has_chat_template(model):
        raise ConfigError(f"{name}: the tokenizer of {folder} has no chat template")
