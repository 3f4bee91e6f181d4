"""Define the two kinds of training rows."""

from dataclasses import dataclass

from avr.core.messages import Conversation, assistant, content_id


@dataclass(frozen=True, slots=True)
class RsftRow:
    """Hold one training conversation; the loss is on its assistant turns.

    `node_ids` holds the tree's id, then the ids of the nodes that the texts came from. `gain` is 0
    for a plain row.
    """

    id: str
    messages: Conversation
    node_ids: tuple[str, ...]
    gain: float


KINDS = ("generation", "critique", "refinement")


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Hold a prompt with a chosen and a rejected continuation, under TRL's field names.

    `margin` is the difference in (mean) reward, or in meta rating for judgements. It is above 0,
    except for pairs of the kind `malformed`: their rejected text has no reward, and it is 0.
    `node_ids` holds the id of the tree or output set, the ids of the nodes with texts in the
    prompt, then the ids of chosen and rejected.
    """

    id: str
    kind: str
    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    margin: float
    node_ids: tuple[str, ...]

    @staticmethod
    def of(
        kind: str, prompt: Conversation, chosen: str, rejected: str, margin: float, *nodes: str
    ) -> "PreferencePair":
        """Make a pair of two texts, with an id from its kind and its nodes."""
        texts = (assistant(chosen),), (assistant(rejected),)
        return PreferencePair(content_id("pair", kind, *nodes), kind, prompt, *texts, margin, nodes)
