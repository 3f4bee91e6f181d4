import asyncio
import pickle
from itertools import pairwise

import pytest
from scripted import TEMPLATES, ScriptedGenerate, ScriptedScore, critique, response, tree

from avr.config.fields import MAX_SEED
from avr.core.growth import Shape, correct, respond, score, take_answer
from avr.core.messages import assistant, run_seed_in, seed_of, user
from avr.core.roles import ContextTooLong, TreeFault
from avr.core.tree import Level, Prompt, Response, has_refinement, plant

TWO_BY_TWO = Shape()


def grow(policy, corrector, reward, shape=TWO_BY_TWO, query="question"):
    async def all_steps():
        tree = plant(Prompt.of((user(query),)), "recipe")
        tree = await respond(tree, policy, TEMPLATES, shape.max_tries)
        tree = await correct(tree, corrector, TEMPLATES, shape)
        return await score(tree, reward.alone)

    return asyncio.run(all_steps())


def helpful(conversation, number, sample):
    last = conversation[-1].content
    if last == "CRITIQUE?":
        return f"critique {number}.{sample} [[7]]"
    return f"answer {number}.{sample}"


def test_tree_has_shape_and_contexts_that_were_asked_for():
    corrector = ScriptedGenerate(helpful)
    tree = grow(ScriptedGenerate(helpful), corrector, ScriptedScore(), Shape(3, 2))
    (level,) = tree.levels
    assert [len(c.refinements) for c in level.critiques] == [2, 2, 2]
    assert all(r.reward is not None for r in tree.responses())
    assert len(list(tree.responses())) == 7
    assert level == Level(tree.first.id, level.critiques)  # nothing thrown away, nothing unscored
    first_context = corrector.requests[0][0]
    assert first_context == (user("question"), assistant(tree.first.text), user("CRITIQUE?"))
    refine_contexts = [c for c, _, _ in corrector.requests if c[-1].content == "REFINE?"]
    assert {c[3].content for c in refine_contexts} == {c.text for c in level.critiques}


def test_answers_and_critiques_keep_how_they_ended_and_what_they_cost():
    engine = ScriptedGenerate(helpful, finish="length")
    tree = grow(engine, engine, ScriptedScore())
    nodes = [*tree.responses(), *tree.levels[0].critiques]
    assert {node.finish_reason for node in nodes} == {"length"}
    assert all(node.num_tokens == len(node.text.split()) for node in nodes)


def test_growing_twice_gives_the_same_tree_and_seeds():
    engines = [ScriptedGenerate(helpful) for _ in range(4)]
    one = grow(engines[0], engines[1], ScriptedScore())
    two = grow(engines[2], engines[3], ScriptedScore())
    assert one == two
    assert engines[1].requests == engines[3].requests


def test_node_ids_are_distinct_and_do_not_depend_on_the_texts():
    def other(conversation, number, sample):
        return helpful(conversation, number, sample).replace("answer", "reply")

    one = grow(ScriptedGenerate(helpful), ScriptedGenerate(helpful), ScriptedScore())
    two = grow(ScriptedGenerate(other), ScriptedGenerate(other), ScriptedScore())
    ids = [r.id for r in one.responses()] + [c.id for c in one.levels[0].critiques]
    assert len(set(ids)) == len(ids) == 7
    assert ids == [r.id for r in two.responses()] + [c.id for c in two.levels[0].critiques]
    assert one.first.text != two.first.text


def test_another_model_gives_other_ids():
    one = grow(ScriptedGenerate(helpful), ScriptedGenerate(helpful), ScriptedScore())
    two = grow(ScriptedGenerate(helpful, "new"), ScriptedGenerate(helpful), ScriptedScore())
    assert one.first.id != two.first.id


def test_malformed_critiques_are_asked_for_again_and_counted():
    def second_time_right(conversation, number, sample):
        if conversation[-1].content == "CRITIQUE?" and number == 0:
            return "no rating"
        return helpful(conversation, number, sample)

    corrector = ScriptedGenerate(second_time_right)
    tree = grow(ScriptedGenerate(helpful), corrector, ScriptedScore())
    (level,) = tree.levels
    assert (len(level.critiques), level.num_rejected, level.num_dropped) == (2, 2, 0)
    assert (level.rejected_example, level.num_rejected_tokens) == ("no rating", 4)
    seeds = [seed for _, _, seed in corrector.requests]
    assert len(set(seeds)) == len(seeds)


def test_level_without_a_wellformed_critique_ends_the_tree():
    def never_rates(conversation, number, sample):
        return "no rating" if conversation[-1].content == "CRITIQUE?" else "answer"

    corrector = ScriptedGenerate(never_rates)
    tree = grow(ScriptedGenerate(helpful), corrector, ScriptedScore(), Shape(2, 2, max_tries=3))
    assert (tree.levels[0].num_rejected, tree.levels[0].num_dropped) == (6, 2)
    again = asyncio.run(correct(tree, corrector, TEMPLATES, Shape()))
    assert again == tree


def test_following_best_and_last_criticise_different_responses():
    def shrinking(conversation, number, sample):
        if conversation[-1].content == "CRITIQUE?":
            return "it is too long [[3]]"
        return "long first answer" if conversation[-1].content != "REFINE?" else "short"

    engine = ScriptedGenerate(shrinking)
    tree = grow(engine, engine, ScriptedScore(len), Shape(1, 1))
    best = asyncio.run(correct(tree, engine, TEMPLATES, Shape(1, 1, follow="best")))
    last = asyncio.run(correct(tree, engine, TEMPLATES, Shape(1, 1, follow="last")))
    assert best.levels[1].of == tree.first.id
    assert last.levels[1].of == tree.levels[0].critiques[0].refinements[0].id


def test_policy_that_says_nothing_is_asked_again_then_the_tree_faults():
    def late(conversation, number, sample):
        return " \n" if number < 2 else " at last "

    tree = plant(Prompt.of((user("q"),)), "recipe")
    grown = asyncio.run(respond(tree, ScriptedGenerate(late), TEMPLATES, 3))
    assert grown.first.text == "at last"
    with pytest.raises(TreeFault, match="empty answer, 2 times"):
        asyncio.run(respond(tree, ScriptedGenerate(late), TEMPLATES, 2))


def test_answer_from_the_input_is_taken_as_it_is():
    tree = plant(Prompt.of((user("q"),), "given"), "recipe")
    first = take_answer(tree).first
    assert first == Response(first.id, "given", "input", num_tokens=0)
    with pytest.raises(ValueError, match="no answer"):
        take_answer(plant(Prompt.of((user("q"),), source="file:3"), "recipe"))


def test_rewards_given_before_are_kept():
    engine = ScriptedGenerate(helpful)
    tree = grow(engine, engine, ScriptedScore(lambda text: 1.0))
    again = asyncio.run(score(tree, ScriptedScore(lambda text: 2.0).alone))
    assert again == tree


def test_seeds_leave_room_for_n_children():
    seeds = sorted(seed_of(f"node-{i}", 0) for i in range(2000))
    assert min(b - a for a, b in pairwise(seeds) if b != a) >= 1024
    assert max(seeds) < 2**42


@pytest.mark.parametrize("run_seed", [0, 1, 7, 1 << 20, (1 << 22) - 1])
def test_small_run_seeds_are_mixed_in_as_they_always_were(run_seed):
    for seed in map(seed_of, "abc", range(3)):
        assert run_seed_in(seed, run_seed) == seed ^ (run_seed << 42)


LARGE = [1 << 22, 20250101, 123456789, (1 << 63) - 1, 1 << 63, MAX_SEED]


@pytest.mark.parametrize("run_seed", LARGE)
def test_large_run_seeds_leave_seeds_in_63_bits_and_room_for_n_children(run_seed):
    seeds = sorted(run_seed_in(seed_of(f"node-{i}", 0), run_seed) for i in range(2000))
    assert min(b - a for a, b in pairwise(seeds) if b != a) >= 1024
    assert min(seeds) >= 0 and max(seeds) + 1023 < 2**63


def test_run_seeds_give_different_seeds():
    run_seeds = [*range(50), *LARGE, *(n + 1 for n in LARGE[:3])]
    assert len({run_seed_in(seed_of("node", 0), seed) for seed in run_seeds}) == len(run_seeds)


def test_shape_of_nothing_is_refused():
    with pytest.raises(ValueError, match="num_critiques"):
        Shape(num_critiques=0)


def test_faults_travel_between_processes():
    fault = ContextTooLong.of("policy", 500, 100, 512)
    again = pickle.loads(pickle.dumps(fault))
    assert type(again) is ContextTooLong
    assert (
        str(again)
        == str(fault)
        == ("too long for the policy: 500 tokens of context + 100 to generate > max_model_len 512")
    )


def failing_on(*texts, reward=len):
    """A reward model that cannot judge these texts."""

    def rewards(text):
        if text in texts:
            raise ContextTooLong.of("reward model", 600, 0, 512)
        return reward(text)

    return ScriptedScore(rewards)


def scored(tree, reward_model):
    return asyncio.run(score(tree, reward_model.alone))


def test_refinement_that_cannot_be_judged_is_left_out_and_counted_and_its_siblings_stay():
    grown = tree(
        response("first"),
        critique("one", response("a b c"), response("good")),
        critique("two", response("other"), response("a b")),
    )
    before = grown.num_tokens()
    judged = scored(grown, failing_on("a b c", "a b"))
    (level,) = judged.levels
    assert [[r.text for r in c.refinements] for c in level.critiques] == [["good"], ["other"]]
    assert judged.first.reward == 5.0 and [r.reward for _, r in judged.refined()] == [4.0, 5.0]
    assert (level.num_unscored, level.num_rejected) == (2, 0)
    assert (
        level.unscored_reason == "too long for the reward model: 600 tokens of context + 0"
        " to generate > max_model_len 512"
    )
    assert judged.num_tokens() == before
    assert scored(judged, failing_on("good")) == judged


def test_critique_whose_refinements_all_cannot_be_judged_stays_without_any_and_gives_no_row():
    grown = tree(response("first"), critique("one", response("a")), critique("two", response("b")))
    one = scored(grown, failing_on("a"))
    assert [len(c.refinements) for c in one.levels[0].critiques] == [0, 1]
    assert one.best_refined()[0].text == "two"
    none = scored(grown, failing_on("a", "b"))
    assert (none.levels[0].num_unscored, len(none.levels[0].critiques)) == (2, 2)
    assert not has_refinement(none)
    engine = ScriptedGenerate(helpful)
    assert asyncio.run(correct(none, engine, TEMPLATES, Shape())) == none
    assert not engine.requests


def test_first_answer_that_cannot_be_judged_is_the_trees_fault():
    grown = tree(response("first"), critique("one", response("a")))
    with pytest.raises(TreeFault, match="too long for the reward model"):
        scored(grown, failing_on("first", "a"))


def test_errors_of_the_reward_model_itself_are_nobodys_refinement():
    def broken(text):
        raise RuntimeError("engine died")

    with pytest.raises(RuntimeError, match="engine died"):
        scored(tree(response("first", 1.0), critique("c", response("a"))), ScriptedScore(broken))
