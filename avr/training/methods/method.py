"""What a training method is: the rows it reads, their tokens, and TRL's trainer that takes them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from avr.training.rows import Example, Row, Tokenizer


@dataclass(frozen=True)
class Method:
    """One way of training. Another one is a subclass, in any module that workers can import.

    Fields decide the result. `columns` are those of the rows, `tokens` those that the trainer
    takes. `paired`: a row goes through the model as two sequences. `has_reference`: the loss asks a
    second model, in every step or, with `precompute_ref_log_probs`, once before them.
    """

    name: str
    columns: ClassVar[tuple[str, ...]]
    tokens: ClassVar[tuple[str, ...]]
    paired: ClassVar[bool] = False
    has_reference: ClassVar[bool] = False

    def encode(self, tokenizer: Tokenizer, row: Row) -> Example:
        """Turn a row into token ids. Raises RowError."""
        raise NotImplementedError

    def arguments(self) -> Any:
        """Return TRL's class of settings. Imports TRL (seconds)."""
        raise NotImplementedError

    def trainer(self) -> Any:
        """Return the trainer's class. Imports TRL (seconds)."""
        raise NotImplementedError

    def check(self, at: str, trl: Mapping[str, Any]) -> None:
        """Raise ConfigError for settings that do not go with it; `at` names their section."""

    def settings(self, trl: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of TRL's that this method decides."""
        return {}

    def setting(self, trl: Mapping[str, Any], name: str) -> Any:
        """Look up a field of TRL's: as it is set, else TRL's default. Imports TRL (seconds)."""
        if name in trl:
            return trl[name]
        return next(each.default for each in fields(self.arguments()) if each.name == name)
