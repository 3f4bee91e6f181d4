"""Parquet rows to token ids and loss masks, with the prompt tokens that generation uses.

Tokens come from `avr.engines.chat.token_ids` only, as those of generation and rewards do: rendering
to text and tokenising that is how a second BOS gets in. Free of torch and transformers: a tokenizer
is whatever has the members of `Tokenizer`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow.parquet as pq

from avr.core.messages import from_dicts
from avr.core.roles import TreeFault
from avr.engines.as_text import as_text_of
from avr.engines.chat import ChatError, rendered, token_ids
from avr.storage import Location, for_arrow, path_of

IGNORED = -100  # the label torch's cross entropy leaves out of the loss

Row = Mapping[str, Any]
Messages = Sequence[Mapping[str, str]]


class RowError(ValueError):
    """A row that cannot be trained on; the message names the row and the field."""


class UnusableRow(RowError):
    """A row whose texts do not go with this tokenizer or template; others may be trained on."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer used here."""

    name_or_path: str
    chat_template: Any
    bos_token_id: int | None
    eos_token_id: int | None
    all_special_ids: list[int]
    all_special_tokens: list[str]

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Token ids (or text, with `tokenize=False`) of a list of messages."""

    def __call__(self, text: str, add_special_tokens: bool = ...) -> Any:
        """A mapping with `input_ids`."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row in the columns TRL takes: `columns[name]` is a list of token ids (or labels).

    `length` is the longest sequence the trainer will see for it, `num_loss_tokens` the number of
    tokens with a loss.
    """

    id: str
    columns: dict[str, list[int]]
    length: int
    num_loss_tokens: int


def parquet_files(path: Location) -> list[Location]:
    """The file itself, or all *.parquet below a folder in a fixed order."""
    files: list[Location] = [path]
    if path.is_dir():
        files = sorted(path.rglob("*.parquet"), key=str)
    if not files or not files[0].is_file():
        raise RowError(f"no Parquet rows at {path}")
    return files


def read_rows(
    columns: Sequence[str], path: Location, rank: int = 0, world_size: int = 1
) -> Iterator[Row]:
    """Every `world_size`-th row from `rank` on, as a dict. Raises RowError on a wrong schema."""
    index = 0
    for file in parquet_files(path):
        table = pq.ParquetFile(path_of(file), **for_arrow(file))
        missing = [c for c in columns if c not in table.schema_arrow.names]
        if missing:
            raise RowError(
                f"{file}: rows to train on need the columns {', '.join(columns)}; "
                f"missing: {', '.join(missing)}"
            )
        for batch in table.iter_batches(batch_size=512, columns=list(columns)):
            for row in batch.to_pylist():
                if index % world_size == rank:
                    yield row
                index += 1


def completion(
    tokenizer: Tokenizer, prompt: Sequence[int], whole: Sequence[int], where: str
) -> list[int]:
    """The tokens of `whole` after `prompt`, up to and with the token that ends the turn.

    What a template puts after that token (ChatML: a newline) belongs to the template: a model stops
    before it, so it gets no loss.
    """
    if list(whole[: len(prompt)]) != list(prompt):
        raise UnusableRow(
            f"{where}: the tokens of the prompt are not a prefix of prompt + answer: the model "
            "would be trained on another context than it generates from (a chat template that "
            "rewrites earlier turns, or text that merges across the boundary)"
        )
    special = set(tokenizer.all_special_ids)
    tail = list(whole[len(prompt) :])
    stops = [i for i, token in enumerate(tail) if token in special]
    if not stops:
        raise RowError(f"{where}: the chat template does not end the turn with a special token")
    if stops[0] == 0:
        raise RowError(f"{where}: the text is empty")
    if len(stops) > 1:
        raise UnusableRow(f"{where}: the text contains a special token of the tokenizer")
    return tail[: stops[0] + 1]


def check_prompt_parity(tokenizer: Tokenizer, rows: Sequence[Row]) -> None:
    """Raises RowError unless each prompt has one token sequence, however it is made.

    Compares `token_ids`, which generation and training use, with the template rendered to text and
    tokenised without special tokens, as OpenAI-style chat servers do it; and looks for a doubled
    BOS. A prompt that names control tokens has no such text (a server would make turns of them);
    `as_text` compares it with these names replaced. Takes rows of both schemas; what is unusable
    for its texts alone is `encode`'s to find.
    """
    for row in rows:
        for name, prompt in _prompts(row):
            where = f"row {row['id']}: {name}"
            try:
                ids = ids_of(tokenizer, prompt, where, True)
            except UnusableRow:
                break
            conversation = from_dicts(prompt)
            if not as_text_of(tokenizer).is_needed(conversation):
                text = rendered(tokenizer, conversation, to_continue=True)
                if list(tokenizer(text, add_special_tokens=False)["input_ids"]) != ids:
                    raise RowError(f"{where}: template text and template tokens disagree")
            check_bos(tokenizer, ids, where)


def check_written(tokenizer: Tokenizer, messages: Messages, where: str) -> None:
    """Raises UnusableRow where the template leaves out part of the last turn (of reasoning models,
    the thinking): the model would be trained on the rest.
    """
    text = rendered(tokenizer, from_dicts(messages), to_continue=False)
    if messages[-1]["content"].strip() not in text:
        raise UnusableRow(
            f"{where}: the chat template does not write this turn as it is"
            " (it may cut thinking away); train with a template that does"
        )


def _prompts(row: Row) -> Iterator[tuple[str, Messages]]:
    if "prompt" in row:
        yield "prompt", row["prompt"]
        return
    for turn, message in enumerate(row["messages"]):
        if message["role"] == "assistant":
            yield f"messages[:{turn}]", row["messages"][:turn]


def ids_of(tokenizer: Tokenizer, messages: Messages, where: str, to_continue: bool) -> list[int]:
    """Token ids of the rendered messages, from the function that generation uses."""
    try:
        return token_ids(tokenizer, from_dicts(messages), to_continue=to_continue)
    except TreeFault as error:  # a conversation that template or tokenizer refuses
        raise UnusableRow(f"{where}: {error}") from error
    except (ValueError, ChatError) as error:  # a turn that is none, a template that gives two BOS
        raise RowError(f"{where}: {error}") from error


def check_bos(tokenizer: Tokenizer, ids: Sequence[int], where: str) -> None:
    """Exactly one BOS, in front, if the tokenizer adds one to plain text; else at most one."""
    bos = tokenizer.bos_token_id
    if bos is None:
        return
    plain = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    adds_bos = plain[:1] == [bos]
    # A BOS that is also the end-of-turn token may occur again later on.
    found = sum(t == bos for t in (ids if bos != tokenizer.eos_token_id else ids[:2]))
    if found > 1:
        raise RowError(f"{where}: {found} BOS tokens in one sequence")
    if (adds_bos or found) and ids[0] != bos:
        raise RowError(f"{where}: does not begin with the BOS token, as other text does")
