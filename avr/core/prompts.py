"""The one set of prompt templates: growth, training rows, search and evaluation all use these.

Every context a model sees is built here and nowhere else, so a critique is asked for in the same
words when a tree is grown, when the model is trained on it, and when it refines its own answer.
Texts are ours. A recipe may override them (`templates:` in the configuration).
"""

from dataclasses import dataclass

from avr.core.messages import Conversation, Message, assistant, user

CRITIQUE_REQUEST = """\
Now act as a demanding reviewer of your answer above. Work through it point by point:
1. Does it do everything that was asked, and nothing that was not?
2. Which statements are wrong, unsupported or misleading? Say why.
3. What is missing that the person would need?
4. Is it clear, well ordered and free of repetition and padding?
Be specific: quote the words you mean and say how to improve them. Do not write a new answer yet.
End with a rating of the answer from 1 (useless) to 10 (nothing left to improve), exactly in this \
form: Rating: [[5]]"""

REFINE_REQUEST = """\
Now write the improved answer to my original request. Put right every problem your review found, \
keep what was already good, and do not make it longer than it needs to be. Write only the answer \
itself: no remarks about the review or about what you changed."""


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


def answer_context(query: Conversation, templates: Templates) -> Conversation:
    """What the policy sees: the query, behind the system text if there is one."""
    if templates.system and query[0].role != "system":
        return (Message("system", templates.system), *query)
    return query


def critique_context(query: Conversation, answer: str, templates: Templates) -> Conversation:
    """What the corrector sees before a critique: query, answer, critique request."""
    head = answer_context(query, templates)
    return (*head, assistant(answer), user(templates.critique_request))


def refine_context(
    query: Conversation, answer: str, critique: str, templates: Templates
) -> Conversation:
    """What the corrector sees before a refinement: the critique context, critique, request."""
    head = critique_context(query, answer, templates)
    return (*head, assistant(critique), user(templates.refine_request))


def refinement_conversation(
    query: Conversation, answer: str, critique: str, refinement: str, templates: Templates
) -> Conversation:
    """The whole exchange in three assistant turns, as RSFT trains on it."""
    return (*refine_context(query, answer, critique, templates), assistant(refinement))


def scored_conversation(query: Conversation, answer: str) -> Conversation:
    """What the reward model judges: the query and one answer, with no system text of ours."""
    return (*query, assistant(answer))
