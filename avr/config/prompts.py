"""Configure a prompt set, and the words around the models' texts."""

from dataclasses import dataclass

from avr.config.fields import at_least, decides_by
from avr.core.prompts import CRITIQUE_REQUEST, REFINE_REQUEST


@dataclass
class PromptsConfig:
    """Describe a prompt set: Parquet, JSONL or JSON files, or `hf://DATASET` (`split`, `subset`).

    `path` is a file, a folder or a pattern (`data/*.jsonl`); files are read in the order of names.
    In a folder, files and folders with a dot or an underscore at the beginning of their names are
    left out. `prompt_field` holds a text or a list of chat messages; `answer_field` (optional)
    holds a text, or messages of which the last assistant turn is taken. `limit` is the number of
    rows to take.
    """

    path: str | None = decides_by("content", default=None)
    prompt_field: str = "prompt"
    answer_field: str | None = None
    split: str = "train"
    subset: str | None = None
    skip: int = at_least(0, 0)
    limit: int | None = at_least(1, None)


@dataclass
class TemplatesConfig:
    """Set the words around the models' texts, everywhere (see `avr.core.prompts`)."""

    critique_request: str = CRITIQUE_REQUEST
    refine_request: str = REFINE_REQUEST
    system: str = ""
