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
    """A language model."""

    @property
    def identity(self) -> str:
        """Its weights, sampling settings and seed, by name."""
        ...

    async def generate(
        self, conversation: Conversation, n: int, seed: int
    ) -> tuple[Completion, ...]:
        """`n` samples that continue `conversation` (its last turn is the user's).

        Raises ContextTooLong when the model cannot hold the conversation and a full answer.
        """
        ...


class Score(Protocol):
    """A Bradley-Terry reward model."""

    @property
    def identity(self) -> str:
        """Its weights, by name."""
        ...

    async def score(self, conversation: Conversation) -> float:
        """The raw logit (any real number) of a conversation that ends with an assistant turn."""
        ...


class TreeFault(ValueError):
    """One tree cannot go on, through its own texts; it is quarantined and no other pays.

    Of a refinement that cannot be judged its tree goes on without it (`avr.core.growth.score`).
    """


class ContextTooLong(TreeFault):
    """A conversation does not fit into a model together with a full answer."""

    @staticmethod
    def of(role: str, num_tokens: int, reserved: int, limit: int) -> "ContextTooLong":
        """The fault in words; not in __init__, because faults travel between processes."""
        return ContextTooLong(
            f"too long for the {role}: {num_tokens} tokens of context + {reserved} to generate"
            f" > max_model_len {limit}"
        )


class EngineDied(RuntimeError):
    """The engine behind a role is gone. Whoever hosts it replaces it; its requests are repeated."""
