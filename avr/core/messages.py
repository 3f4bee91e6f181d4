"""Define chat messages as frozen values, and the content hash behind every id and seed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """Hold one chat turn; `role` is one of `ROLES`."""

    role: str
    content: str


Conversation = tuple[Message, ...]


def user(content: str) -> Message:
    """Make a user turn."""
    return Message("user", content)


def assistant(content: str) -> Message:
    """Make an assistant turn."""
    return Message("assistant", content)


def to_dicts(conversation: Conversation) -> list[dict[str, str]]:
    """Convert a conversation to the form that chat templates and Parquet rows take."""
    return [{"role": m.role, "content": m.content} for m in conversation]


def from_dicts(messages: Sequence[Mapping[str, object]]) -> Conversation:
    """Convert the form of `to_dicts` back. Raises ValueError naming the wrong turn and field."""
    conversation = []
    for turn, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ValueError(f"turn {turn} is {kind_of(message)}, not a role and a content")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise ValueError(f"turn {turn}: role is {role!r}, expected one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise ValueError(f"turn {turn}: content is {kind_of(content)}, not text")
        conversation.append(Message(str(role), content))
    return tuple(conversation)


def kind_of(value: object) -> str:
    """Name the JSON kind of a value, such as "a number"."""
    kinds: dict[type, str] = {
        type(None): "null",
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), type(value).__name__)


def content_id(*parts: object) -> str:
    """Hash JSON-serialisable `parts` to a 96-bit hexadecimal id.

    Equal content has an equal id on every machine.
    """
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def seed_of(node_id: str, attempt: int) -> int:
    """Derive the sampling seed of one request from the id of the node that it grows from.

    vLLM gives child i of a request the seed + i, so seeds are spaced by 1024 (more than any n).
    A seed is below 2**42, so every sampler takes it.
    """
    return int(content_id(node_id, attempt)[:8], 16) << 10


def share_of(node_id: str) -> float:
    """Return a number from 0 up to 1 that the id alone decides."""
    return int(content_id("share", node_id)[:8], 16) / 2**32


# A run's seed from here on, shifted by 42, would not fit into 64 bits.
_SHIFTED = 1 << 22


def run_seed_in(seed: int, run_seed: int) -> int:
    """Mix the seed of a run into the seed of a request (`seed_of`).

    A run's seed below 2**22 takes the 22 highest of 64 bits. A larger one would leave the 64 bits
    that samplers take, so a 53-bit hash of it goes over bits 10 to 62, and the result lies below
    2**63. Either way requests stay 1024 apart, which leaves room for their children. Ours.
    """
    if run_seed < _SHIFTED:
        return seed ^ (run_seed << 42)
    return seed ^ (int(content_id("run seed", run_seed)[:14], 16) >> 3 << 10)
