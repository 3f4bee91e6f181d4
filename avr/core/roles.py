"""Define how the algorithm sees the cluster: two asynchronous functions, `Generate` and `Score`."""

from dataclasses import dataclass
from typing import Protocol

from avr.core.messages import Conversation
from avr.core.tree import Prompt, Verdict


@dataclass(frozen=True, slots=True)
class Completion:
    """Hold one sampled text. `num_tokens` counts generated tokens.

    `finish_reason` is vLLM's: "stop" or "length".
    """

    text: str
    finish_reason: str
    num_tokens: int


class Generate(Protocol):
    """Describe a language model."""

    @property
    def identity(self) -> str:
        """Return a name for its weights, sampling settings and seed."""
        ...

    async def generate(
        self, conversation: Conversation, n: int, seed: int
    ) -> tuple[Completion, ...]:
        """Sample `n` continuations of `conversation` (its last turn is the user's).

        Raises ContextTooLong when the model cannot hold the conversation and a full answer.
        """
        ...


class Score(Protocol):
    """Describe what rewards an answer: a Bradley-Terry reward model, or a verifier that knows."""

    @property
    def name(self) -> str:
        """Return the name that its verdicts carry in trees."""
        ...

    async def score(self, prompt: Prompt, answer: str) -> Verdict:
        """Return the verdict on an answer: a raw logit (any real number), or a share from 0 to 1.

        Raises TreeFault where it cannot judge this answer.
        """
        ...


class TreeFault(ValueError):
    """Signal a fault in one tree's own texts. The tree is quarantined, others are not affected.

    A tree goes on without a refinement that cannot be judged (`avr.core.growth.score`).
    """


class ContextTooLong(TreeFault):
    """Signal a conversation that does not fit into a model together with a full answer."""

    @staticmethod
    def of(role: str, num_tokens: int, reserved: int, limit: int) -> "ContextTooLong":
        """Make the fault with its message; not in __init__, as faults travel between processes."""
        return ContextTooLong(
            f"too long for the {role}: {num_tokens} tokens of context + {reserved} to generate"
            f" > max_model_len {limit}"
        )


class EngineDied(RuntimeError):
    """Signal that a role lost its engine. The host replaces it; its requests are repeated."""
