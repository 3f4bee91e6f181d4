"""Configure a prompt set, and the words around the models' texts."""

from dataclasses import asdict, dataclass, replace

from avr.config.errors import ConfigError
from avr.config.fields import at_least, decides_by
from avr.core.prompts import TEMPLATE_SETS, Templates


@dataclass
class PromptsConfig:
    """Describe a prompt set: Parquet, JSONL or JSON files, or `hf://DATASET` (`split`, `subset`).

    `path` is a file, a folder or a pattern (`data/*.jsonl`); files are read in the order of names.
    In a folder, files and folders with a dot or an underscore at the beginning of their names are
    left out. `prompt_field` holds a text or a list of chat messages; `answer_field` (optional)
    holds a text, or messages of which the last assistant turn is taken. With a `prompt_format`,
    such as "{question} The first test: {tests[0]}", the prompt is made of several fields of a row,
    in the words of Python's str.format. `limit` is the number of rows to take.

    `question_field` holds what a row asks, where rows that ask the same may differ in their
    prompts: of MBPP the task, beside which a prompt shows a test. Held-out prompts must then not
    share their question with trained ones, either; a training without this setting is compared by
    whole prompts alone.

    What a verifier needs, and the policy never sees: `reference_field` holds a solution with its
    final answer, `tests_field` a list of unit tests or one text of them, and `setup_field` code
    that runs before the tests.
    """

    path: str | None = decides_by("content", default=None)
    prompt_field: str = "prompt"
    prompt_format: str | None = None
    answer_field: str | None = None
    reference_field: str | None = None
    tests_field: str | None = None
    setup_field: str | None = None
    question_field: str | None = None
    split: str = "train"
    subset: str | None = None
    skip: int = at_least(0, 0)
    limit: int | None = at_least(1, None)


@dataclass
class TemplatesConfig:
    """Choose the words around the models' texts, everywhere: a `set`, and texts in its place.

    The sets are those of `avr.core.prompts`: `chat`, `maths`, `code`, and `miniature` for the
    tiny models. The other settings are the fields of `avr.core.prompts.Templates`; unset, they are
    the set's.
    """

    set: str = "chat"
    critique_request: str | None = None
    refine_request: str | None = None
    system: str | None = None
    rated: bool | None = None
    feedback_hint: str | None = None
    reference_hint: str | None = None


def templates_of(config: TemplatesConfig) -> Templates:
    """Return the words around models' texts. Raises ConfigError for empty ones or no such set."""
    if config.set not in TEMPLATE_SETS:
        raise ConfigError(f"templates.set {config.set!r}: there are {', '.join(TEMPLATE_SETS)}")
    own = {name: text for name, text in asdict(config).items() if text is not None}
    del own["set"]
    try:
        return replace(TEMPLATE_SETS[config.set], **own)
    except ValueError as error:
        raise ConfigError(str(error)) from error
