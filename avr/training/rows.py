"""Turn Parquet rows into token ids and loss masks, with the prompt tokens that generation uses.

Tokens come from `avr.engines.chat.token_ids` only, as for generation and rewards. Tokenising
rendered text instead is how a second BOS gets in. The module is free of torch and transformers: a
tokenizer is any object with the members of `Tokenizer`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from avr.core.messages import from_dicts
from avr.core.roles import TreeFault
from avr.engines.as_text import as_text_of
from avr.engines.chat import ChatError, rendered, token_ids
from avr.storage import Location, for_arrow, path_of

IGNORED = -100  # the label that torch's cross entropy leaves out of the loss

Row = Mapping[str, Any]
Messages = Sequence[Mapping[str, str]]


class RowError(ValueError):
    """Signal a row that cannot be trained on; the message names the row and the field."""


class UnusableRow(RowError):
    """Signal texts that do not fit this tokenizer or template; other rows may be trained on."""


class Tokenizer(Protocol):
    """Describe the part of a Hugging Face tokenizer that is used here."""

    name_or_path: str
    chat_template: Any
    bos_token_id: int | None
    eos_token_id: int | None
    all_special_ids: list[int]
    all_special_tokens: list[str]

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Return the token ids (or text, with `tokenize=False`) of a list of messages."""

    def __call__(self, text: str, add_special_tokens: bool = ...) -> Any:
        """Return a mapping with `input_ids`."""


@dataclass(frozen=True, slots=True)
class Example:
    """Hold one row in TRL's columns: `columns[name]` is a list of token ids (or labels).

    `length` is the length of the longest sequence that the trainer will see for it,
    `num_loss_tokens` the number of tokens with a loss.
    """

    id: str
    columns: dict[str, list[int]]
    length: int
    num_loss_tokens: int


def parquet_files(path: Location) -> list[Location]:
    """List the file itself, or all *.parquet below a folder in a fixed order.

    Raises RowError where there is none.
    """
    files: list[Location] = [path]
    if path.is_dir():
        files = sorted(path.rglob("*.parquet"), key=str)
    if not files or not files[0].is_file():
        raise RowError(f"no Parquet rows at {path}")
    return files


def read_rows(
    columns: Sequence[str], path: Location, rank: int = 0, world_size: int = 1
) -> Iterator[Row]:
    """Yield every `world_size`-th row from `rank` on, as a dict.

    Raises RowError for a wrong schema.
    """
    import pyarrow.parquet as pq  # not before a job has told Arrow which memory pool to take

    # Ranks take rows in turn over all files, so their shares differ by at most one row.
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
    """Return the tokens of `whole` after `prompt`, up to and with the token that ends the turn.

    Tokens that a template puts after that one (ChatML: a newline) belong to the template: a model
    stops before them, so they get no loss. Raises RowError.
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
    """Raise RowError unless each prompt has one token sequence, however it is made.

    `token_ids`, which generation and training use, is compared with the template rendered to text
    and tokenised without special tokens, as OpenAI-style chat servers do it. A doubled BOS is an
    error too. A prompt that names control tokens has no such text (a server would make turns of
    them); `as_text` compares it with these names replaced. Rows may have either schema. A row that
    is unusable only for its texts is passed over; `encode` finds it.
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
    """Raise UnusableRow where the template leaves out part of the last turn.

    Templates of reasoning models may leave out the thinking; the model would be trained on the
    rest.
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
    """Return the token ids of the rendered messages, from the function that generation uses.

    Raises RowError.
    """
    try:
        return token_ids(tokenizer, from_dicts(messages), to_continue=to_continue)
    except TreeFault as error:  # a conversation that template or tokenizer refuses
        raise UnusableRow(f"{where}: {error}") from error
    except (ValueError, ChatError) as error:  # a malformed turn, a template that gives two BOS
        raise RowError(f"{where}: {error}") from error


def check_bos(tokenizer: Tokenizer, ids: Sequence[int], where: str) -> None:
    """Raise RowError unless there is exactly one BOS, in front.

    None is fine as well if the tokenizer adds none to plain text.
    """
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
        raise RowError(
            f"{where}: must begin with the BOS token, which this tokenizer puts before plain text"
        )
