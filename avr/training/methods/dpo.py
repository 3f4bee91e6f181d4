"""Train by direct preference optimization (arXiv 2305.18290): pairs of answers to one prompt."""

from dataclasses import dataclass
from typing import Any, ClassVar

from avr.engines.imports import lasting_imports
from avr.training.methods.method import Method
from avr.training.rows import (
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
class Dpo(Method):
    """Train by DPO. TRL's `loss_type` sets losses beside it, such as an SFT term."""

    name: str = "dpo"
    columns: ClassVar[tuple[str, ...]] = ("id", "prompt", "chosen", "rejected")
    tokens: ClassVar[tuple[str, ...]] = ("prompt_ids", "chosen_ids", "rejected_ids")
    paired: ClassVar[bool] = True
    has_reference: ClassVar[bool] = True

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Encode the prompt and both answers. Each answer ends with the end-of-turn token."""
        row_id = str(row["id"])
        messages = row["prompt"]
        if not messages or messages[-1]["role"] != "user":
            raise RowError(f"row {row_id}: prompt must end with a user turn")
        prompt = ids_of(tokenizer, messages, f"row {row_id}: prompt", True)
        check_bos(tokenizer, prompt, f"row {row_id}: prompt")
        columns = {"prompt_ids": prompt}
        for side in ("chosen", "rejected"):
            where = f"row {row_id}: {side}"
            answer = row[side]
            if len(answer) != 1 or answer[0]["role"] != "assistant":
                raise RowError(f"{where} must be exactly one assistant message")
            whole = ids_of(tokenizer, [*messages, *answer], where, False)
            columns[f"{side}_ids"] = completion(tokenizer, prompt, whole, where)
            check_written(tokenizer, [*messages, *answer], where)
        # Texts that differ may give the same tokens: the gradients of both sides then cancel.
        if columns["chosen_ids"] == columns["rejected_ids"]:
            raise UnusableRow(f"row {row_id}: chosen and rejected are the same tokens")
        sizes = [len(columns[f"{side}_ids"]) for side in ("chosen", "rejected")]
        # The trainer sees the prompt with each answer: the longer of the two is the row's length.
        return Example(row_id, columns, len(prompt) + max(sizes), sum(sizes))

    def arguments(self) -> Any:
        """Return DPOConfig."""
        from trl.trainer.dpo_config import DPOConfig

        return DPOConfig

    def trainer(self) -> Any:
        """Return a DPOTrainer that takes the three columns of token ids as they are.

        TRL 1.16's own tokenises every data set itself, and unlike SFTTrainer it has no setting to
        prevent that.
        """
        with lasting_imports():
            from trl.trainer.dpo_trainer import DPOTrainer

        class TokenisedDPOTrainer(DPOTrainer):
            """Train on pairs that are tokens already."""

            _name = "DPO"

            def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
                return dataset

        return TokenisedDPOTrainer
