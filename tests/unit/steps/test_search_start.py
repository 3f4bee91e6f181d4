"""Where searches have their first answers from: the policy, or the rows of the input."""

import asyncio
import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from configured import checked, decided, needs, steps_of
from scripted import TEMPLATES, ScriptedGenerate, ScriptedScore

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.core.growth import Shape, take_answer
from avr.core.messages import user
from avr.core.search import search
from avr.core.tree import Prompt, plant, tree_from_dict
from avr.data.tables import read_rows
from avr.recipes.stage2 import Stage2Config
from avr.run.ledger import Ledger
from avr.run.step import Run
from avr.serving.queries import Worked

HERE = ["stage1_dir=null", "policy.model=avr/miniature/models/corrector"]
FROM_INPUT = ["first_answer=input", "prompts.search.answer_field=chosen"]


def stage2(*overrides):
    return load(Stage2Config, "conf/miniature/stage2.yaml", [*HERE, *overrides])


def test_first_answers_from_the_input_need_a_field_before_anything_starts():
    message = "first_answer is 'input', but prompts.search.answer_field is not set"
    with pytest.raises(ConfigError) as caught:
        checked(stage2("first_answer=input"))
    assert str(caught.value) == message
    assert needs(stage2("first_answer=input", "steps=[unroll,rsft]"))


def id_of(decided_by):
    """The id of all that decides one prompt's tree, as a run makes it of what its ledger holds."""
    ledger = SimpleNamespace(begun=lambda name: decided_by)
    return Run(None, None, ledger, None).recipe(SimpleNamespace(name="search"))


def test_first_answers_decide_what_a_search_finds():
    sampled, taken = decided(stage2(), "search"), decided(stage2(*FROM_INPUT), "search")
    assert (sampled["first_answer"], taken["first_answer"]) == ("sampled", "input")
    assert id_of(sampled) != id_of(taken)
    # Where no answers are taken, it does not matter whether rows have some.
    again = decided(stage2("first_answer=sampled", "prompts.search.answer_field=chosen"), "search")
    assert again != sampled and id_of(again) == id_of(sampled)


def test_planned_texts_of_a_search_from_the_input_are_those_of_one_that_always_improves():
    (plan,) = needs(stage2(*FROM_INPUT, "steps=[search]", "max_depth=3"))
    says = {"CRITIQUE?": "It says enough. Rating: [[7]]"}
    policy = ScriptedGenerate(
        lambda asked, number, _: says.get(asked[-1].content, "a" * (number + 9))
    )
    scorer, planted = ScriptedScore(len), plant(Prompt.of((user("q"),), "given"), "recipe")
    asyncio.run(search(take_answer(planted), policy, scorer.alone, TEMPLATES, Shape(), 3))
    texts = sum(n for _, n, _ in policy.requests)
    assert [pool.samples for pool in plan.pools] == [texts, len(scorer.requests)]


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """The trees that a search starts with, without any engine."""
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "a?", "chosen": "a"}, {"prompt": "b?"}, {"prompt": "c?", "chosen": " "}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(*overrides):
        there = []

        def run_queries(queries, *rest):
            there.extend(tree_from_dict(query["tree"]) for query in queries)
            return Worked(0, 0, 0, {})

        @contextmanager
        def pools(*arguments):
            yield Pools()

        monkeypatch.setattr("avr.serving.queries.run_queries", run_queries)
        monkeypatch.setattr("avr.hosting.witness.witness_beside_driver", lambda: None)
        monkeypatch.setattr("avr.steps.search.pools", pools)
        config = stage2(f"prompts.search.path={file}", "prompts.search.limit=null", *overrides)
        run = Run(config, tmp_path / "run", Ledger(tmp_path / "run" / "ledger", print), None)
        step = steps_of(config)["search"]
        run.ledger.step("search", run.decided_by(step), lambda: step.work(run))
        return there, list(read_rows(tmp_path / "run" / "search" / "rejected.parquet"))

    return start


class Pools:
    """Hands out the names of what is asked for."""

    def generate(self, role):
        return role

    def score(self, name, role):
        assert (name, role) == ("classifier", "reward_model")
        return role


def test_search_from_the_input_starts_with_its_answers_and_sets_rows_without_one_aside(searched):
    (tree,), rejected = searched(*FROM_INPUT)
    assert (tree.first.text, tree.first.finish_reason, tree.first.num_tokens) == ("a", "input", 0)
    assert [row["reason"] for row in rejected] == [
        "no field 'chosen'; the row has prompt",
        "field 'chosen' holds no answer text",
    ]


def test_search_that_samples_starts_with_prompts_alone_and_takes_every_row(searched):
    trees, rejected = searched("prompts.search.answer_field=chosen")
    assert [tree.response for tree in trees] == [None] * 3
    assert rejected == []
