"""What a critique and a refinement see of the turns before: nothing, or the chain of states."""

import asyncio
from dataclasses import replace

import pytest
from scripted import TEMPLATES, ScriptedGenerate, ScriptedScore

from avr.core.growth import Shape, self_refine
from avr.core.messages import Message, assistant, user
from avr.core.prompts import answer_context
from avr.core.roles import ContextTooLong, TreeFault
from avr.core.search import best_answer, improving_turns, search
from avr.core.tree import Prompt, plant

PLANTED = plant(Prompt.of((user("question"),)), "recipe")
CRITIQUE, REFINE = user("CRITIQUE?"), user("REFINE?")
# The rewards of all other answers are 0, those of y0 too.
BEST = {"answer 2.1": 1.0, "answer 6.0": 2.0}


def numbered(conversation, number, sample):
    """Every text says which request and sample it is."""
    if conversation[-1] == CRITIQUE:
        return f"critique {number}.{sample} [[7]]"
    return f"answer {number}.{sample}"


def no_longer_than(num_turns):
    def script(conversation, number, sample):
        if len(conversation) > num_turns:
            raise ContextTooLong.of("policy", 500, 100, 512)
        return numbered(conversation, number, sample)

    return script


def searched(shape, max_depth=3, script=numbered):
    engine = ScriptedGenerate(script)
    score = ScriptedScore(lambda text: BEST.get(text, 0.0))
    return asyncio.run(search(PLANTED, engine, score.alone, TEMPLATES, shape, max_depth)), engine


def refined(shape, rounds, script=numbered):
    engine = ScriptedGenerate(script)
    return asyncio.run(self_refine(PLANTED, engine, TEMPLATES, shape, rounds)), engine


def asked(engine):
    """Conversations in the order of the requests, that for y0 left out."""
    return [conversation for conversation, _, _ in engine.requests[1:]]


def test_a_query_with_a_system_text_of_its_own_keeps_that_one():
    templates = replace(TEMPLATES, system="Ours.")
    own = (Message("system", "Its own."), user("question"))
    assert answer_context(own, templates) == own
    assert answer_context(own[1:], templates) == (Message("system", "Ours."), user("question"))


def test_search_with_the_answer_alone_sees_query_and_current_answer():
    _, engine = searched(Shape(2, 2))
    contexts = asked(engine)
    query = user("question")
    assert len(contexts) == 9
    for level, answer in enumerate(("answer 0.0", "answer 2.1", "answer 6.0")):
        head = (query, assistant(answer), CRITIQUE)
        one, two = (assistant(f"critique {3 * level + 1}.{n} [[7]]") for n in range(2))
        assert contexts[3 * level : 3 * level + 3] == [
            head,
            (*head, one, REFINE),
            (*head, two, REFINE),
        ]


def test_search_with_history_sees_the_chain_of_states_that_led_to_the_current_answer():
    tree, engine = searched(Shape(2, 2, context="history"))
    contexts = asked(engine)
    first = (user("question"), assistant("answer 0.0"), CRITIQUE)
    assert contexts[:3] == [
        first,
        (*first, assistant("critique 1.0 [[7]]"), REFINE),
        (*first, assistant("critique 1.1 [[7]]"), REFINE),
    ]
    # The best of the first level came from its first critique, that of the second from its other.
    second = (*first, assistant("critique 1.0 [[7]]"), REFINE, assistant("answer 2.1"), CRITIQUE)
    assert contexts[3:6] == [
        second,
        (*second, assistant("critique 4.0 [[7]]"), REFINE),
        (*second, assistant("critique 4.1 [[7]]"), REFINE),
    ]
    third = (*second, assistant("critique 4.1 [[7]]"), REFINE, assistant("answer 6.0"), CRITIQUE)
    assert contexts[6:] == [
        third,
        (*third, assistant("critique 7.0 [[7]]"), REFINE),
        (*third, assistant("critique 7.1 [[7]]"), REFINE),
    ]
    assert [r.text for _, r in improving_turns(tree)] == list(BEST)


def test_history_grows_by_a_critique_and_a_refinement_each_round_of_self_refinement():
    tree, engine = refined(Shape(1, 1, follow="last", context="history"), 3)
    (query, *_), *_ = contexts = asked(engine)
    state = (query, assistant("answer 0.0"))
    for level in range(3):
        critique, answer = f"critique {2 * level + 1}.0 [[7]]", f"answer {2 * level + 2}.0"
        assert contexts[2 * level] == (*state, CRITIQUE)
        assert contexts[2 * level + 1] == (*state, CRITIQUE, assistant(critique), REFINE)
        state = (*contexts[2 * level + 1], assistant(answer))
    assert [tree.after(k).text for k in range(4)] == [f"answer {2 * k}.0" for k in range(4)]


def test_first_level_is_the_same_with_either_context():
    one, _ = searched(Shape(2, 2), max_depth=1)
    two, _ = searched(Shape(2, 2, context="history"), max_depth=1)
    assert one == two


def test_history_that_no_longer_fits_ends_a_search_with_what_it_found():
    shape = Shape(2, 2, context="history")
    for turns in (6, 7):  # the critique, and the refinement, of the second level
        tree, _ = searched(shape, script=no_longer_than(turns))
        assert tree == searched(shape, max_depth=1)[0]
        assert best_answer(tree).text == "answer 2.1"
    with pytest.raises(TreeFault, match="too long for the policy"):
        searched(shape, script=no_longer_than(2))
    without, _ = searched(Shape(2, 2), script=no_longer_than(6))
    assert len(without.levels) == 3


def test_history_that_no_longer_fits_ends_self_refinement_with_the_answers_so_far():
    shape = Shape(1, 1, follow="last", context="history")
    tree, _ = refined(shape, 3, no_longer_than(6))
    assert len(tree.levels) == 1 and tree.after(3).text == "answer 2.0"
