"""Chat messages as frozen values, and the content hash every id and seed comes from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn; `role` is one of `ROLES`."""

    role: str
    content: str


Conversation = tuple[Message, ...]


def user(content: str) -> Message:
    """A user turn."""
    return Message("user", content)


def assistant(content: str) -> Message:
    """An assistant turn."""
    return Message("assistant", content)


def to_dicts(conversation: Conversation) -> list[dict[str, str]]:
    """The conversation in the form chat templates and Parquet rows take."""
    return [{"role": m.role, "content": m.content} for m in conversation]


def from_dicts(messages: Sequence[Mapping[str, object]]) -> Conversation:
    """The inverse of `to_dicts`. Raises ValueError naming the turn and field that are wrong."""
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
    """What a value of a JSON row is, in the words of JSON."""
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
    """A 96-bit hexadecimal id of JSON-serialisable `parts`: equal content, equal id, anywhere."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def seed_of(node_id: str, attempt: int) -> int:
    """A sampling seed for one request, derived from the id of the node it grows from.

    vLLM gives child i of a request the seed + i, so seeds are spaced by 1024 (more than any n).
    Below 2**42: every sampler takes it.
    """
    return int(content_id(node_id, attempt)[:8], 16) << 10


# Above this the plain shift would leave 64 bits.
_SHIFTED = 1 << 22


def run_seed_in(seed: int, run_seed: int) -> int:
    """Mix the seed of a run into that of a request (`seed_of`), leaving room for its children.

    Below 2**22 the run's seed takes the 22 highest of 64 bits. From there on, where a shift would
    leave the 64 bits that samplers take, a 53-bit hash of it goes over bits 10 to 62: the result
    lies below 2**63, and requests stay 1024 apart. Ours.
    """
    if run_seed < _SHIFTED:
        return seed ^ (run_seed << 42)
    return seed ^ (int(content_id("run seed", run_seed)[:14], 16) >> 3 << 10)
