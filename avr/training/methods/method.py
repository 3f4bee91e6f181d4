"""Define the base of training methods: a method's rows, their tokens, TRL's trainer for them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from avr.training.rows import Example, Row, Tokenizer


@dataclass(frozen=True)
class Method:
    """Describe one way of training. Subclass it for another, in a module that workers can import.

    Fields decide the result. `columns` are the columns of the rows, `tokens` the columns that the
    trainer takes. `paired`: a row goes through the model as two sequences. `has_reference`: the
    loss needs a second model, in every step or, with `precompute_ref_log_probs`, once before the
    first step.
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
        """Raise ConfigError for settings that do not fit the method; `at` names their section."""

    def settings(self, trl: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of TRL that this method decides."""
        return {}

    def setting(self, trl: Mapping[str, Any], name: str) -> Any:
        """Look up a setting of TRL: the user's value, else TRL's default. Imports TRL (seconds)."""
        if name in trl:
            return trl[name]
        return next(each.default for each in fields(self.arguments()) if each.name == name)
