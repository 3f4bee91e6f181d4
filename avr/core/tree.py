"""Define the refinement tree of one prompt: one frozen value, one row.

prompt -> response (y0) -> levels, in order. A level criticises one response; each of its critiques
holds its refinements; every response carries its reward once the reward model has seen it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from avr.core.messages import Conversation, content_id, from_dicts, to_dicts


@dataclass(frozen=True, slots=True)
class Prompt:
    """Hold one input row. `answer` is the answer in the row (y0 when taken from the input).

    `reference` is a solution and `tests` are unit tests: what a verifier needs to judge an answer,
    and never part of what the policy sees. `setup` is code that runs before the tests.
    """

    id: str
    query: Conversation
    answer: str | None = None
    source: str = ""
    reference: str | None = None
    tests: tuple[str, ...] = ()
    setup: str = ""

    @staticmethod
    def of(
        query: Conversation, answer: str | None = None, source: str = "", **truth: Any
    ) -> "Prompt":
        """Make a prompt with an id from the query alone; `truth` is for a verifier."""
        return Prompt(content_id("prompt", to_dicts(query)), query, answer, source, **truth)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold what one judge, by its name, says of one answer.

    `reward` is a reward model's raw logit or a verifier's share from 0 to 1. `feedback` says in
    words what a verifier found wrong, "" where it found nothing or has no words.
    """

    by: str
    reward: float
    feedback: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """Hold an answer: y0 or a refinement. `reward` is None until all judges have given a verdict.

    It combines the `verdicts` (`avr.core.reward`); of a single judge it is that judge's own.
    """

    id: str
    text: str
    finish_reason: str
    num_tokens: int
    reward: float | None = None
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Critique:
    """Hold a well-formed critique and its refinements.

    Its `rating` is a format check only; None where nobody asked for one and it gives none.
    """

    id: str
    text: str
    rating: int | None
    finish_reason: str
    num_tokens: int
    refinements: tuple[Response, ...] = ()


@dataclass(frozen=True, slots=True)
class Level:
    """Hold one turn of refinement of the response `of`.

    `num_rejected` counts the samples thrown away because they were malformed (no rating, too few
    words, empty text); `rejected_example` is the first of them, for people to read. `num_dropped`
    counts the critiques and `num_dropped_refinements` the refinements that were still missing
    after the bounded retries. `num_unscored` refinements are left out because the reward model
    failed on them; `unscored_reason` is the reason of the first. `num_rejected_tokens` counts the
    tokens of all samples thrown away or left out.
    """

    of: str
    critiques: tuple[Critique, ...]
    num_rejected: int = 0
    num_dropped: int = 0
    num_dropped_refinements: int = 0
    rejected_example: str = ""
    num_rejected_tokens: int = 0
    num_unscored: int = 0
    unscored_reason: str = ""


@dataclass(frozen=True, slots=True)
class RefinementTree:
    """Hold one prompt and all that was grown from it.

    `quarantined` is the reason why the tree could not be finished, else "".
    """

    id: str
    prompt: Prompt
    response: Response | None = None
    levels: tuple[Level, ...] = ()
    quarantined: str = ""

    @property
    def first(self) -> Response:
        """Return y0. Raises ValueError where the policy has not responded yet."""
        if self.response is None:
            raise ValueError(f"tree {self.id} has no response yet")
        return self.response

    def responses(self) -> Iterator[Response]:
        """Yield y0, then every refinement, in the order of growth."""
        if self.response is not None:
            yield self.response
        for level in self.levels:
            for critique in level.critiques:
                yield from critique.refinements

    def after(self, rounds: int) -> Response:
        """Return the answer r_k after k rounds of self-refinement (method, Stage I.5).

        A round that gave no refinement leaves the answer as it was.
        """
        answer = self.first
        for level in self.levels[:rounds]:
            refinements = [r for c in level.critiques for r in c.refinements]
            answer = refinements[0] if refinements else answer
        return answer

    def num_tokens(self, rounds: int | None = None) -> int:
        """Count the tokens generated for y0 and the first `rounds` levels (default: all).

        Tokens of rejected samples and of refinements without a reward are included. An answer that
        came with the prompt counts 0 tokens. Not known, and so not included, are the tokens of
        first answers that were empty, and of a level whose refinements no longer fitted into the
        context.
        """
        levels = self.levels[:rounds]
        critiques = [c for level in levels for c in level.critiques]
        responses = [self.first, *(r for c in critiques for r in c.refinements)]
        kept = sum(r.num_tokens for r in responses) + sum(c.num_tokens for c in critiques)
        return kept + sum(level.num_rejected_tokens for level in levels)

    def refined(self) -> Iterator[tuple[Critique, Response]]:
        """Yield every (critique, refinement) of the first level. Stage I selects from these."""
        for critique in self.levels[0].critiques if self.levels else ():
            for refinement in critique.refinements:
                yield critique, refinement

    def best_refined(self) -> tuple[Critique, Response]:
        """Return the best critique and best refinement: the pair with the highest reward.

        The last wins a tie (released). Raises ValueError where the first level has no refinement.
        """
        return max(reversed(list(self.refined())), key=lambda pair: reward_of(pair[1]))

    @property
    def gain(self) -> float:
        """Return the reward of the best refinement minus that of y0.

        The paper calls it the refinement-aware reward.
        """
        return reward_of(self.best_refined()[1]) - reward_of(self.first)


def plant(prompt: Prompt, recipe: str) -> RefinementTree:
    """Make a tree with nothing grown yet; `recipe` names models, sampling and shape."""
    return RefinementTree(content_id("tree", prompt.id, recipe), prompt)


def reward_of(response: Response) -> float:
    """Return the reward of a response. Raises ValueError for one that was never scored."""
    if response.reward is None:
        raise ValueError(f"response {response.id} has no reward yet")
    return response.reward


def tree_to_dict(tree: RefinementTree) -> dict[str, Any]:
    """Convert a tree to nested plain data, as Parquet and JSON hold it."""
    return asdict(tree)


def tree_from_dict(data: Mapping[str, Any]) -> RefinementTree:
    """Convert the data of `tree_to_dict` back to a tree."""
    response = data["response"]
    return RefinementTree(
        id=data["id"],
        prompt=prompt_from_dict(data["prompt"]),
        response=_response(response) if response is not None else None,
        levels=tuple(_level(level) for level in data["levels"]),
        quarantined=data["quarantined"],
    )


def prompt_from_dict(data: Mapping[str, Any]) -> Prompt:
    """Convert the plain data of a prompt back to it."""
    # Prompts from before there were verifiers lack these, or hold null beside newer ones.
    truth = {"tests": tuple(data.get("tests") or ()), "setup": data.get("setup") or ""}
    return Prompt(**{**data, **truth, "query": from_dicts(data["query"])})


def verdicts_from(data: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Convert the verdicts in the plain data of a response or an output back to values."""
    return tuple(Verdict(**verdict) for verdict in data.get("verdicts") or ())


def _response(data: Mapping[str, Any]) -> Response:
    return Response(**{**data, "verdicts": verdicts_from(data)})


def _level(data: Mapping[str, Any]) -> Level:
    critiques = tuple(_critique(c) for c in data["critiques"])
    # Trees from before these were counted lack them, or hold null in one table with newer trees.
    later = {name: data.get(name) or 0 for name in ("num_rejected_tokens", "num_unscored")}
    reason = data.get("unscored_reason") or ""
    return Level(**{**data, **later, "critiques": critiques, "unscored_reason": reason})


def _critique(data: Mapping[str, Any]) -> Critique:
    return Critique(**{**data, "refinements": tuple(map(_response, data["refinements"]))})


def has_refinement(tree: RefinementTree) -> bool:
    """Tell whether at least one critique of y0 was refined."""
    return next(tree.refined(), None) is not None
