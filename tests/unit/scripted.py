"""Scripted engines: they answer from a script, not from a model. For unit tests alone."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from avr.core.messages import Conversation, user
from avr.core.prompts import Templates
from avr.core.reward import Rewarding
from avr.core.roles import Completion
from avr.core.tree import Critique, Level, Prompt, RefinementTree, Response, Verdict, reward_of

TEMPLATES = Templates(critique_request="CRITIQUE?", refine_request="REFINE?")


@dataclass
class ScriptedGenerate:
    """`script(conversation, request number, sample number)` gives each text."""

    script: Callable[[Conversation, int, int], str]
    identity: str = "scripted"
    requests: list[tuple[Conversation, int, int]] = field(default_factory=list)
    finish: str = "stop"

    async def generate(self, conversation, n, seed):
        number = len(self.requests)
        self.requests.append((conversation, n, seed))
        texts = [self.script(conversation, number, sample) for sample in range(n)]
        return tuple(Completion(text, self.finish, len(text.split())) for text in texts)


@dataclass
class ScriptedScore:
    """The reward of an answer is what `reward` says of its text."""

    reward: Callable[[str], float] = len
    name: str = "scripted"
    requests: list[tuple[Prompt, str]] = field(default_factory=list)

    @property
    def alone(self):
        """The reward that is this one's verdict."""
        return Rewarding.by(self)

    async def score(self, prompt, answer):
        self.requests.append((prompt, answer))
        return Verdict(self.name, float(self.reward(answer)))


def response(text: str, reward: float | None = None, finish: str = "stop") -> Response:
    return Response(f"id-{text}", text, finish, len(text.split()), reward)


def critique(text: str, *refinements: Response, finish: str = "stop") -> Critique:
    return Critique(f"id-{text}", text, 5, finish, len(text.split()), refinements)


def tree(
    first: Response, *critiques: Critique, query: str = "question", answer: str | None = None
) -> RefinementTree:
    prompt = Prompt.of((user(query),), answer, "here:1")
    levels = (Level(first.id, critiques),) if critiques else ()
    return RefinementTree(f"tree-{first.text}-{query}", prompt, first, levels)


def searched(
    first: Response, *levels: tuple[Critique, ...], query: str = "question"
) -> RefinementTree:
    """A tree with each level below the best answer so far, as a search grows it."""
    grown = tree(first, query=query)
    for critiques in levels:
        of = max(grown.responses(), key=reward_of)
        grown = replace(grown, levels=(*grown.levels, Level(of.id, critiques)))
    return grown
