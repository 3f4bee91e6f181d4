"""Train by rejection-sampling fine-tuning: cross entropy on every assistant turn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from avr.engines.imports import lasting_imports
from avr.training.methods.method import Method
from avr.training.rows import (
    IGNORED,
    Example,
    Row,
    RowError,
    Tokenizer,
    UnusableRow,
    check_bos,
    check_written,
    completion,
    ids_of,
)


@dataclass(frozen=True)
class Rsft(Method):
    """Train by RSFT: SFT on rows that were selected (method, Stages I.3 and II.3)."""

    name: str = "rsft"
    columns: ClassVar[tuple[str, ...]] = ("id", "messages")
    tokens: ClassVar[tuple[str, ...]] = ("input_ids", "labels")

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Make `input_ids` and `labels` [T]. Raises RowError.

        Each assistant turn has labels, up to its end-of-turn token.
        """
        row_id, messages = str(row["id"]), row["messages"]
        if not messages or messages[-1]["role"] != "assistant":
            raise RowError(f"row {row_id}: messages must end with an assistant turn")
        ids = ids_of(tokenizer, messages, f"row {row_id}: messages", False)
        labels = [IGNORED] * len(ids)
        end = 0
        for turn, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            where = f"row {row_id}: messages[{turn}]"
            prompt = ids_of(tokenizer, messages[:turn], where, True)
            last = turn == len(messages) - 1
            whole = ids if last else ids_of(tokenizer, messages[: turn + 1], where, False)
            if whole != ids[: len(whole)]:
                raise UnusableRow(
                    f"{where}: the chat template renders this turn differently later on"
                )
            check_written(tokenizer, messages[: turn + 1], where)
            end = len(prompt) + len(completion(tokenizer, prompt, whole, where))
            labels[len(prompt) : end] = ids[len(prompt) : end]
        # A model never generates anything after the last end-of-turn token.
        ids, labels = ids[:end], labels[:end]
        check_bos(tokenizer, ids, f"row {row_id}: messages")
        num_loss_tokens = sum(label != IGNORED for label in labels)
        return Example(row_id, {"input_ids": ids, "labels": labels}, len(ids), num_loss_tokens)

    def arguments(self) -> Any:
        """Return SFTConfig."""
        from trl.trainer.sft_config import SFTConfig

        return SFTConfig

    def trainer(self) -> Any:
        """Return SFTTrainer."""
        with lasting_imports():
            from trl.trainer.sft_trainer import SFTTrainer

        return SFTTrainer

    def settings(self, trl: Mapping[str, Any]) -> dict[str, Any]:
        """Make TRL leave the rows as they are, unless they are to be packed."""
        return {} if trl.get("packing") else {"dataset_kwargs": {"skip_prepare_dataset": True}}
