"""The cluster, as the algorithm sees it: two asynchronous functions, Generate and Score."""

from dataclasses import dataclass
from typing import Protocol

from avr.core.messages import Conversation


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled text. `finish_reason` is vLLM's: "stop" or "length"; tokens are generated."""

    text: str
    finish_reason: str
    num_tokens: int


class Generate(Protocol):
    """A language model. `identity` names its weights, sampling settings and seed."""

    identity: str

    async def generate(
        self, conversation: Conversation, n: int, seed: int
    ) -> tuple[Completion, ...]:
        """`n` samples that continue `conversation` (its last turn is the user's).

        Raises ContextTooLong when the model cannot hold the conversation and a full answer.
        """
        ...


class Score(Protocol):
    """A Bradley-Terry reward model."""

    identity: str

    async def score(self, conversation: Conversation) -> float:
        """The raw logit (any real number) of a conversation that ends with an assistant turn."""
        ...


class ContextTooLong(ValueError):
    """A conversation does not fit into a model; the tree it belongs to is quarantined."""

    def __init__(self, role: str, num_tokens: int, reserved: int, limit: int):
        super().__init__(
            f"too long for the {role}: {num_tokens} tokens of context + {reserved} to generate"
            f" > max_model_len {limit}"
        )
        self.role = role

    def __reduce__(self) -> tuple[type[ValueError], tuple[str]]:
        """Survive pickling between processes: the message is all that is needed there."""
        return (ValueError, (str(self),))
