"""Define the prompt templates that growth, training rows, search and evaluation share.

Every context a model sees is built here and nowhere else, so a critique is asked for in the same
words when a tree is grown, when the model is trained on it, and when it refines its own answer.
Texts are ours. A recipe may override them (`templates:` in the configuration).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from avr.core.messages import Conversation, Message, assistant, user

# Tried on Qwen2.5-Coder 1.5B as corrector, with a dozen answers or fewer each:
# - A rating asked for after the review was missing in 11 of 12 critiques; asked for before the
#   review, in none of 10.
# - An example of a rating ("[[5]]") is copied as the whole critique, so a letter stands in its
#   place.
# - A list of things that a refinement must not have ("no review, no rating ...") came back as the
#   refinement, in 8 of 8. Asked to start with the answer, 17 of 17 kept their form (one began with
#   a rating).
# The results of a whole job are in docs/evidence/real_models.md.
CRITIQUE_REQUEST = """\
Review your answer above. Begin with a line of this form, where N is a whole number from 1 \
(useless) to 10 (nothing left to improve):
Rating: [[N]]
Below it, explain the rating in two to five sentences: check the answer on one concrete case, and \
say what is wrong or missing, where, and how to put it right. Do not write a new answer yet."""

REFINE_REQUEST = """\
Now write the corrected answer to my original request. Start directly with the answer. Give all of \
it, in the form that I asked for: for code, one complete code block."""


# What a corrector is shown of the truth while trees are grown (`Shape.sees`).
FEEDBACK_HINT = """For your eyes only, this is what a test of the answer found:
{feedback}
Write as if you had found it by yourself: do not mention a test or this note."""

REFERENCE_HINT = """For your eyes only, this is a correct solution:
{reference}
Write as if you had worked it out by yourself: do not mention a solution or this note."""


@dataclass(frozen=True, slots=True)
class Templates:
    """Hold the texts that we put around the model's own. Raises ValueError for an empty request.

    `system` is put first where it is not empty. Where the request asks for no rating, `rated` is
    False: a critique is then well-formed without one. `feedback_hint` and `reference_hint` follow
    the critique request where the corrector may see the truth (`Shape.sees`); rows never hold them.
    """

    critique_request: str = CRITIQUE_REQUEST
    refine_request: str = REFINE_REQUEST
    system: str = ""
    rated: bool = True
    feedback_hint: str = FEEDBACK_HINT
    reference_hint: str = REFERENCE_HINT

    def __post_init__(self) -> None:
        for name in ("critique_request", "refine_request"):
            if not getattr(self, name).strip():
                raise ValueError(f"templates.{name} is empty: the corrector would not be asked")
        for what in ("feedback", "reference"):
            if f"{{{what}}}" not in getattr(self, f"{what}_hint"):
                raise ValueError(
                    f"templates.{what}_hint has no {{{what}}}: the corrector would not see it"
                )


# A rating asked for in the same breath costs small models the critique: in a first trial they
# wrote "Rating: 1" and nothing else in 31 of 40. Where a verifier knows what is right nobody needs
# one.
_MATHS = Templates(
    critique_request="""\
Check your solution above. Go through it step by step: does each step follow from the problem, and \
is each number computed correctly? Name the first mistake and say what is right instead, in two to \
five sentences. If there is no mistake, say so. Do not write the whole solution again yet.""",
    refine_request="""\
Now write the whole solution once more, with every mistake corrected. Think step by step, briefly, \
and end with the final answer in the same form as before.""",
    rated=False,
)

_CODE = Templates(
    critique_request="""\
Review your program above. Follow it line by line on the example in my request: what does each \
line compute, and is the result what the example asks for? Name the first line that is wrong and \
say how to put it right, in two to five sentences. If there is no fault, say so. Do not write code \
yet.""",
    refine_request="""\
Now write the whole program once more, with every fault corrected. Write only one Python code \
block.""",
    rated=False,
)

# Words of the closed vocabulary that the tiny models were trained on.
_MINIATURE = Templates(
    critique_request="Check each item and rate the answer.",
    refine_request="Now write the improved answer.",
)

# Sets of templates by kind of task. `maths` and `code` have not been measured on real models yet.
TEMPLATE_SETS: Mapping[str, Templates] = {
    "chat": Templates(),
    "maths": _MATHS,
    "code": _CODE,
    "miniature": _MINIATURE,
}


Sees = Literal["nothing", "feedback", "reference"]


def hint_of(sees: Sees, templates: Templates, reference: str | None, feedback: str) -> str:
    """Build what the corrector is shown of the truth; "" where it sees nothing or there is none."""
    if sees == "reference" and reference:
        return templates.reference_hint.replace("{reference}", reference)
    if sees == "feedback" and feedback:
        return templates.feedback_hint.replace("{feedback}", feedback)
    return ""


# The answers in the context of a critique or refinement: the current one alone (released), or the
# whole chain of states that led to it, as the paper's MDP concatenates them.
Context = Literal["answer", "history"]
# (answer, critique) of each turn before the current answer, the oldest first.
History = tuple[tuple[str, str], ...]


def answer_context(query: Conversation, templates: Templates) -> Conversation:
    """Build the policy's context: the query, behind the system text if there is one.

    A query that begins with a system turn keeps that one alone.
    """
    if templates.system and query[0].role != "system":
        return (Message("system", templates.system), *query)
    return query


def critique_context(
    query: Conversation,
    answer: str,
    templates: Templates,
    history: History = (),
    hint: str = "",
) -> Conversation:
    """Build the corrector's context before a critique: query, answer, critique request.

    The turns of a `history` stand before the answer, each with its answer, critique and requests.
    A `hint` (`hint_of`) follows the critique request.
    """
    head = answer_context(query, templates)
    for earlier, critique in history:
        asked = (user(templates.critique_request), assistant(critique))
        head = (*head, assistant(earlier), *asked, user(templates.refine_request))
    request = "\n\n".join(filter(None, (templates.critique_request, hint)))
    return (*head, assistant(answer), user(request))


def refine_context(
    query: Conversation,
    answer: str,
    critique: str,
    templates: Templates,
    history: History = (),
    hint: str = "",
) -> Conversation:
    """Build the corrector's context before a refinement: critique context, critique, request."""
    head = critique_context(query, answer, templates, history, hint)
    return (*head, assistant(critique), user(templates.refine_request))


def refinement_conversation(
    query: Conversation, answer: str, critique: str, refinement: str, templates: Templates
) -> Conversation:
    """Build the whole exchange in three assistant turns, as RSFT trains on it."""
    return (*refine_context(query, answer, critique, templates), assistant(refinement))


def scored_conversation(query: Conversation, answer: str) -> Conversation:
    """Build the reward model's input: the query and one answer, without our system text."""
    return (*query, assistant(answer))
