"""The two kinds of training rows."""

from dataclasses import dataclass

from avr.core.messages import Conversation


@dataclass(frozen=True, slots=True)
class RsftRow:
    """One training conversation; the loss is on its assistant turns.

    `node_ids`: tree, then the nodes the texts came from. `gain` is 0 for a plain row.
    """

    id: str
    messages: Conversation
    node_ids: tuple[str, ...]
    gain: float


KINDS = ("generation", "critique", "refinement")


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """`chosen` is preferred to `rejected` as the continuation of `prompt` (TRL's field names).

    `margin` is the difference in (mean) reward, always > 0 but for pairs of the kind `malformed`,
    whose rejected text has no reward: 0 there. `node_ids`: the tree, the nodes whose texts stand
    in the prompt, then those of chosen and rejected.
    """

    id: str
    kind: str
    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    margin: float
    node_ids: tuple[str, ...]
