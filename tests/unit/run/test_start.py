"""From which model Stage II trains, and from where its searches have their first answers."""

import asyncio
import json
from contextlib import contextmanager
from pathlib import Path

import pytest
from recipes import checked, decided, needs, steps_of
from scripted import TEMPLATES, ScriptedGenerate, ScriptedScore

from avr.config.errors import ConfigError
from avr.config.load import load
from avr.config.stage2 import Stage2Config
from avr.core.growth import Shape, take_answer
from avr.core.messages import user
from avr.core.search import search
from avr.core.tree import Prompt, plant, tree_from_dict
from avr.data.tables import read_rows
from avr.engines.weights import weights_id
from avr.plan.forecast import other_models
from avr.run.ledger import Ledger
from avr.run.step import Run
from avr.serving.queries import Worked

MINIATURE = Path("conf/miniature/stage2.yaml")
SEED, SEARCHER = "avr/miniature/models/policy", "avr/miniature/models/corrector"
HERE = ["stage1_dir=null", f"policy.model={SEARCHER}"]
FROM_INPUT = ["first_answer=input", "prompts.search.answer_field=chosen"]


def stage2(*overrides, recipe=MINIATURE):
    return load(Stage2Config, recipe, [*(HERE if recipe == MINIATURE else []), *overrides])


def wrong(check, config):
    with pytest.raises(ConfigError) as caught:
        check(config)
    return str(caught.value)


@pytest.mark.parametrize(("start", "model"), [("policy", SEED), ("stage1", SEARCHER)])
def test_what_is_trained_on_trajectories_is_what_start_says(start, model):
    config = stage2(f"start={start}")
    assert decided(config, "rsft")["base"] == weights_id(model)
    plans = {plan.step: plan for plan in checked(config)}
    for step in ("rsft", "sample", "dpo"):
        assert plans[step].pools[0].model == model
    assert [plans[step].pools[0].trained for step in ("rsft", "sample", "dpo")] == [
        False,
        True,
        True,
    ]
    for step in ("search", "evaluate"):  # whatever is trained, it searches with Stage I's model
        assert plans[step].pools[0].model == SEARCHER


def test_stage_1s_model_is_the_default_and_needs_no_seed():
    assert weights_id(SEED) != weights_id(SEARCHER)
    for more in (["evaluation=null"], ["steps=[search,unroll,rsft,sample,pair,dpo]"]):
        config = stage2("seed_model=null", *more)
        assert steps_of(config)["rsft"].base == SEARCHER
        assert checked(config)


def test_seed_model_that_is_asked_for_and_not_given_is_named():
    missing = "start is 'policy', but seed_model is not set: name the untrained model"
    assert wrong(checked, stage2("start=policy", "seed_model=null", "evaluation=null")) == missing
    compared = "evaluation: seed_model is not set, and all models are compared with it"
    assert wrong(checked, stage2("seed_model=null")) == compared
    nowhere = "seed_model: no model folder at ./none"
    for more in (["start=policy", "evaluation=null"], ["start=stage1"]):
        assert wrong(checked, stage2("seed_model=./none", *more)) == nowhere
    checked(stage2("seed_model=./none", "evaluation=null"))  # which nobody asks for


def test_model_that_rsft_makes_is_no_other_model_of_a_small_run(tmp_path):
    (tmp_path / "config.yaml").write_text(f"policy: {{model: {SEARCHER}}}\n")
    plan = needs(stage2("start=policy", "steps=[search,unroll,rsft,sample,pair,dpo]"))
    assert other_models(plan, tmp_path) == []
    (tmp_path / "config.yaml").write_text("policy: {model: another}\n")
    assert other_models(plan, tmp_path) == [f"policy another in the place of {SEARCHER}"]
    plan = needs(stage2("start=policy", "steps=[sample,pair,dpo]"))
    (tmp_path / "config.yaml").write_text(f"policy: {{model: {SEARCHER}}}\nseed_model: {SEED}\n")
    assert other_models(plan, tmp_path) == []
    (tmp_path / "config.yaml").write_text(f"policy: {{model: {SEARCHER}}}\nseed_model: another\n")
    assert other_models(plan, tmp_path) == [f"policy {SEARCHER} in the place of {SEED}"]


def test_first_answers_from_the_input_need_a_field_before_anything_starts():
    message = "first_answer is 'input', but prompts.search.answer_field is not set"
    assert wrong(checked, stage2("first_answer=input")) == message
    assert needs(stage2("first_answer=input", "steps=[unroll,rsft]"))


def test_first_answers_decide_what_a_search_finds():
    sampled, taken = decided(stage2(), "search"), decided(stage2(*FROM_INPUT), "search")
    assert (sampled["first_answer"], taken["first_answer"]) == ("sampled", "input")


def test_planned_texts_of_a_search_from_the_input_are_those_of_one_that_always_improves():
    (plan,) = needs(stage2(*FROM_INPUT, "steps=[search]", "max_depth=3"))
    says = {"CRITIQUE?": "It says enough. Rating: [[7]]"}
    policy = ScriptedGenerate(
        lambda asked, number, _: says.get(asked[-1].content, "a" * (number + 9))
    )
    scorer, planted = ScriptedScore(len), plant(Prompt.of((user("q"),), "given"), "recipe")
    asyncio.run(search(take_answer(planted), policy, scorer, TEMPLATES, Shape(), 3))
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

    def score(self):
        return "reward_model"


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
