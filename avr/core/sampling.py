"""Sample well-formed completions of one context, in a bounded number of requests."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from avr.core.messages import Conversation, content_id, seed_of
from avr.core.roles import Completion, Generate


@dataclass(frozen=True, slots=True)
class Samples:
    """Hold well-formed completions with their node ids, the rejected, and how many are missing."""

    kept: tuple[tuple[str, Completion], ...]
    rejected: tuple[Completion, ...]
    num_missing: int


async def sample(
    generate: Generate,
    context: Conversation,
    n: int,
    max_tries: int,
    parent: str,
    well_formed: Callable[[Completion], bool],
) -> Samples:
    """Sample `n` well-formed completions in at most `max_tries` requests.

    Malformed ones are sampled anew. Node ids and seeds derive from `parent`, so the same call asks
    for the same samples.
    """
    kept: list[Completion] = []
    rejected: list[Completion] = []
    for attempt in range(max_tries):
        if len(kept) == n:
            break
        sampled = await generate.generate(context, n - len(kept), seed_of(parent, attempt))
        # Many chat templates trim their turns: texts that differ only in outer white space would
        # be the same to a model.
        batch = [replace(c, text=c.text.strip()) for c in sampled]
        kept += [c for c in batch if well_formed(c)]
        rejected += [c for c in batch if not well_formed(c)]
    named = ((content_id(parent, branch), c) for branch, c in zip(count(), kept))
    return Samples(tuple(named), tuple(rejected), n - len(kept))
