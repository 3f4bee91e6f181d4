"""Define the numbers of a model that decide its memory. Pure."""

from dataclasses import dataclass

GIB = 2**30


class UnknownMemoryError(ValueError):
    """Signal memory that cannot be worked out here; the message says of what, and why."""


@dataclass(frozen=True, slots=True)
class Model:
    """Describe a decoder: its shape and its parameters, counted once where they are tied.

    `largest` is the number of parameters of its largest part that is used in one go: a decoder
    layer, or the embeddings. `positions` is the longest sequence it was made for, in tokens.
    """

    parameters: int
    largest: int
    num_layers: int
    hidden: int
    intermediate: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocabulary: int
    positions: int


def shared_evenly(query: int, kv: int, size: int) -> bool:
    """Say whether so many ranks share the heads; KV heads are repeated where ranks are more."""
    if size < 1 or query % size:
        return False
    return kv % size == 0 if kv >= size else size % kv == 0


@dataclass(frozen=True, slots=True)
class Saved:
    """Hold the bytes that a forward pass keeps for the backward pass, weights not counted.

    `layer` are the bytes of one decoder layer, `passed_on` those that a layer hands to the next
    (with gradient checkpointing nothing else of it is kept), `fixed` those of everything around the
    layers.
    """

    fixed: int
    layer: int
    passed_on: int

    def total(self, num_layers: int, checkpointing: bool) -> int:
        """Add up all layers; with gradient checkpointing one is computed again at a time."""
        if checkpointing:
            return self.fixed + num_layers * self.passed_on + self.layer
        return self.fixed + num_layers * self.layer
