"""The one set of prompt templates: growth, training rows, search and evaluation all use these.

Every context a model sees is built here and nowhere else, so a critique is asked for in the same
words when a tree is grown, when the model is trained on it, and when it refines its own answer.
Texts are ours. A recipe may override them (`templates:` in the configuration).
"""

from dataclasses import dataclass
from typing import Literal

from avr.core.messages import Conversation, Message, assistant, user

# What was learnt from two small real models: an example of a rating is copied as
# the whole critique, so there is a letter in its place; a rating that is asked for before the words
# leaves none; "the answer itself" is not enough to keep a model from another review.
CRITIQUE_REQUEST = """\
Act as a strict reviewer of your answer above. Write the review first, in at least three full \
sentences:
- Follow the answer step by step on one concrete case and say what it gives there. Is that what \
my request asks for?
- Name every mistake and every part of the request that was missed: where it is, why it is wrong, \
and how to put it right.
- If you find nothing wrong, say what you have checked.
Do not write a new answer yet. When the review is done, close it with a last line of this form, \
where N is a whole number from 1 (useless) to 10 (nothing left to improve):
Rating: [[N]]"""

REFINE_REQUEST = """\
Now answer my original request once more, from the beginning, as if for the first time. Put right \
what your review found wrong and keep what was good. Keep to the form that my request asks for: \
code goes into one code block, whole and ready to use; a result is worked out and stated; anything \
else is plain text. Reply with nothing but this answer: no review, no rating, no remarks about \
what has changed."""


@dataclass(frozen=True, slots=True)
class Templates:
    """The words around the model's own texts. `system` is put first where it is not empty."""

    critique_request: str = CRITIQUE_REQUEST
    refine_request: str = REFINE_REQUEST
    system: str = ""

    def __post_init__(self) -> None:
        for name in ("critique_request", "refine_request"):
            if not getattr(self, name).strip():
                raise ValueError(f"templates.{name} is empty: the corrector would not be asked")


# What a critique and a refinement see: the current answer alone (released), or the whole chain of
# states that led to it, as the paper's MDP concatenates them.
Context = Literal["answer", "history"]
# (answer, critique) of each turn before the current answer, the oldest first.
History = tuple[tuple[str, str], ...]


def answer_context(query: Conversation, templates: Templates) -> Conversation:
    """What the policy sees: the query, behind the system text if there is one."""
    if templates.system and query[0].role != "system":
        return (Message("system", templates.system), *query)
    return query


def critique_context(
    query: Conversation, answer: str, templates: Templates, history: History = ()
) -> Conversation:
    """What the corrector sees before a critique: query, answer, critique request.

    Turns of a `history` stand before the answer, each with its answer, critique and requests.
    """
    head = answer_context(query, templates)
    for earlier, critique in history:
        asked = (user(templates.critique_request), assistant(critique))
        head = (*head, assistant(earlier), *asked, user(templates.refine_request))
    return (*head, assistant(answer), user(templates.critique_request))


def refine_context(
    query: Conversation, answer: str, critique: str, templates: Templates, history: History = ()
) -> Conversation:
    """What the corrector sees before a refinement: the critique context, critique, request."""
    head = critique_context(query, answer, templates, history)
    return (*head, assistant(critique), user(templates.refine_request))


def refinement_conversation(
    query: Conversation, answer: str, critique: str, refinement: str, templates: Templates
) -> Conversation:
    """The whole exchange in three assistant turns, as RSFT trains on it."""
    return (*refine_context(query, answer, critique, templates), assistant(refinement))


def scored_conversation(query: Conversation, answer: str) -> Conversation:
    """What the reward model judges: the query and one answer, with no system text of ours."""
    return (*query, assistant(answer))
