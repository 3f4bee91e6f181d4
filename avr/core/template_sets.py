"""Name sets of templates for kinds of tasks. The texts are ours.

What each gives on real models is measured in docs/evidence/template_sets.md.
"""

from collections.abc import Mapping

from avr.core.prompts import Templates

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

TEMPLATE_SETS: Mapping[str, Templates] = {
    "chat": Templates(),
    "maths": _MATHS,
    "code": _CODE,
    "miniature": _MINIATURE,
}
