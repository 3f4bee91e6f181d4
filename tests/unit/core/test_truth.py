"""What a corrector is shown of the truth, and which answers it corrects at all."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import TEMPLATES, ScriptedGenerate
from verified import (
    FEEDBACK,
    REFERENCE,
    SECRETS,
    numbered,
    prompt_of,
    request_of,
    rising,
    searched,
)

from avr.core.growth import Shape, correct, is_right, respond, self_refine
from avr.core.messages import assistant, share_of, user
from avr.core.prompts import Templates, critique_context, hint_of, refine_context
from avr.core.search import best_answer, closing_critique
from avr.core.tree import Response, Verdict, plant


def hints_in(conversation):
    """What stands behind each critique request of a conversation, "" where nothing does."""
    asked = [m.content for m in conversation if m.content.startswith("CRITIQUE?")]
    return [text.removeprefix("CRITIQUE?").removeprefix("\n\n") for text in asked]


@pytest.mark.parametrize(
    ("sees", "reference", "feedback", "hint"),
    [
        ("nothing", "r", "f", ""),
        ("reference", "r", "f", "<r>"),
        ("reference", None, "f", ""),
        ("reference", "", "f", ""),
        ("feedback", "r", "f", "[f]"),
        ("feedback", "r", "", ""),  # the answer is right, or nobody has judged it
        # The words of a row are data, whatever they look like.
        ("reference", "{reference} {feedback} {0} }", "f", "<{reference} {feedback} {0} }>"),
        ("feedback", "r", "\\1 {reference}", "[\\1 {reference}]"),
    ],
)
def test_a_hint_is_what_the_corrector_may_see_if_it_is_there(sees, reference, feedback, hint):
    templates = replace(TEMPLATES, reference_hint="<{reference}>", feedback_hint="[{feedback}]")
    assert hint_of(sees, templates, reference, feedback) == hint


@pytest.mark.parametrize("what", ["feedback", "reference"])
def test_a_hint_without_a_place_for_the_truth_is_refused(what):
    with pytest.raises(ValueError, match=f"templates.{what}_hint has no {{{what}}}: the corrector"):
        Templates(**{f"{what}_hint": "For your eyes only."})


def test_a_hint_follows_the_request_for_this_critique_and_none_of_the_history():
    query, history = (user("question"),), (("earlier", "its critique"),)
    plain = critique_context(query, "answer", TEMPLATES, history)
    hinted = critique_context(query, "answer", TEMPLATES, history, "HINT")
    assert (hinted[:-1], hinted[-1]) == (plain[:-1], user("CRITIQUE?\n\nHINT"))
    refined = refine_context(query, "answer", "critique", TEMPLATES, history, "HINT")
    assert refined == (*hinted, assistant("critique"), user("REFINE?"))


@pytest.mark.parametrize("context", ["answer", "history"])
def test_a_corrector_that_sees_the_reference_has_it_before_critique_and_refinement(context):
    tree, (first, *asked) = searched(Shape(1, 1, sees="reference", context=context))
    assert len(tree.levels) == 3 and len(asked) == 6
    assert first == (user("question"),)
    hint = TEMPLATES.reference_hint.replace("{reference}", REFERENCE)
    # The turns of before stand there as rows will have them.
    before = [[""] * (level if context == "history" else 0) for level in (0, 0, 1, 1, 2, 2)]
    assert [hints_in(conversation) for conversation in asked] == [[*b, hint] for b in before]
    assert not any(secret in str(asked) for secret in SECRETS if secret != REFERENCE)


@pytest.mark.parametrize("context", ["answer", "history"])
def test_a_corrector_that_sees_feedback_has_what_was_found_wrong_with_this_answer(context):
    shape = Shape(1, 1, sees="feedback", truth="maths", context=context)
    tree, (_, *asked) = searched(shape)
    texts = {r.id: r.text for r in tree.responses()}
    found = [f"{FEEDBACK} {texts[level.of]}." for level in tree.levels]
    hints = [TEMPLATES.feedback_hint.replace("{feedback}", words) for words in found]
    assert [hints_in(c)[-1] for c in asked] == [hint for hint in hints for _ in range(2)]
    assert {shown for c in asked for shown in hints_in(c)[:-1]} <= {""}
    assert not any(secret in str(asked) for secret in SECRETS if secret != FEEDBACK)


@pytest.mark.parametrize(
    ("shape", "prompt"),
    [
        (Shape(truth="maths"), prompt_of()),
        (Shape(sees="feedback", truth="another judge"), prompt_of()),
        (Shape(sees="reference", truth="maths"), prompt_of(reference=None)),
    ],
)
def test_a_corrector_sees_nothing_where_that_is_asked_for_or_there_is_nothing(shape, prompt):
    engine, verdict = ScriptedGenerate(numbered), Verdict("maths", 0.0, FEEDBACK)
    tree = asyncio.run(respond(plant(prompt, "recipe"), engine, TEMPLATES, 5))
    tree = replace(tree, response=replace(tree.first, verdicts=(verdict,)))
    asyncio.run(correct(tree, engine, TEMPLATES, shape))
    asked = [conversation for conversation, _, _ in engine.requests]
    assert len(asked) == 4 and not any(secret in str(asked) for secret in SECRETS)


def test_models_that_are_evaluated_see_nothing():
    engine = ScriptedGenerate(numbered)
    shape = Shape(1, 1, follow="last", context="history")
    asyncio.run(self_refine(plant(prompt_of(), "recipe"), engine, TEMPLATES, shape, 3))
    asked = str([conversation for conversation, _, _ in engine.requests])
    assert len(engine.requests) == 7 and not any(secret in asked for secret in SECRETS)


# Which answers are corrected at all


def test_right_is_the_full_reward_of_the_judge_that_knows():
    verdicts = (Verdict("other", 9.0), Verdict("maths", 1.0))
    right = Response("id", "text", "stop", 1, 5.0, verdicts)
    assert is_right(right, "maths") and not is_right(right, "")
    assert not is_right(replace(right, verdicts=verdicts[:1]), "maths")
    assert not is_right(replace(right, verdicts=(Verdict("maths", 0.99),)), "maths")


def criticised(share, reward, num=200):
    """The ids of first answers, and of those among them that were criticised."""
    shape, every, some = Shape(1, 1, truth="maths", criticised_share=share), set(), set()
    for n in range(num):
        tree, _ = searched(shape, lambda _: reward, 1, prompt_of(f"question {n}"))
        every.add(tree.first.id)
        some |= {tree.first.id} if tree.levels else set()
    return every, some


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_an_answer_that_is_not_right_is_always_criticised(share):
    every, some = criticised(share, 0.99, num=20)
    assert every == some and len(every) == 20


def test_a_right_answer_is_never_criticised_with_a_share_of_0_and_always_with_1():
    assert not criticised(0.0, 1.0, num=50)[1]
    every, some = criticised(1.0, 1.0, num=50)
    assert every == some


def test_ids_decide_which_right_answers_are_criticised_and_their_share_is_as_asked():
    every, few = criticised(0.2, 1.0)
    _, more = criticised(0.7, 1.0)
    assert few == {node for node in every if share_of(node) < 0.2}
    assert len(few) / len(every) == pytest.approx(0.2, abs=0.09)  # three standard deviations
    assert len(more) / len(every) == pytest.approx(0.7, abs=0.1)
    assert few < more


@settings(max_examples=40)
@given(st.text(max_size=9))
def test_a_share_lies_from_0_up_to_1_and_is_that_of_its_id(node):
    assert 0 <= share_of(node) < 1
    assert share_of(node) != share_of(f"{node}.")


def test_the_share_of_an_id_is_the_same_on_every_machine_and_version():
    assert [round(share_of(node), 6) for node in ("", "a", "4f2")] == [0.258391, 0.431417, 0.099995]


def right_from(request):
    return lambda text: float(request_of(text) >= request) or rising(text)


@pytest.mark.parametrize(("request_", "num_levels"), [(0, 0), (2, 1), (4, 2), (6, 3)])
def test_a_search_ends_at_a_right_answer_without_another_request(request_, num_levels):
    shape = Shape(1, 1, truth="maths", criticised_share=0.0)
    tree, asked = searched(shape, right_from(request_), max_depth=5)
    assert len(tree.levels) == num_levels and len(asked) == 1 + 2 * num_levels
    assert is_right(best_answer(tree), "maths") and closing_critique(tree) is None
    # One that is criticised all the same ends with a level that gains nothing.
    tree, _ = searched(replace(shape, criticised_share=1.0), right_from(request_), max_depth=5)
    assert len(tree.levels) == num_levels + 1
    assert closing_critique(tree) == tree.levels[-1].critiques[0]


def test_a_tree_whose_answer_is_right_is_not_changed_by_a_corrector():
    tree, _ = searched(Shape(truth="maths", criticised_share=0.0), lambda _: 1.0)
    engine = ScriptedGenerate(numbered)
    shape = Shape(truth="maths", criticised_share=0.0)
    assert asyncio.run(correct(tree, engine, TEMPLATES, shape)) is tree
    assert not engine.requests
    # A shape that does not say who knows corrects it.
    assert asyncio.run(correct(tree, engine, TEMPLATES, Shape(criticised_share=0.0))).levels


def test_only_feedback_and_a_share_need_verdicts_before_a_critique():
    needing = [Shape(sees="feedback"), Shape(criticised_share=0.99), Shape(criticised_share=0.0)]
    assert all(shape.needs_verdicts for shape in needing)
    assert not Shape().needs_verdicts and not Shape(sees="reference").needs_verdicts
