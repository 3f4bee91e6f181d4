"""Sets of templates for kinds of tasks, and texts in the place of some of theirs."""

import asyncio
import re
from dataclasses import fields, replace

import pytest
from scripted import ScriptedGenerate

from avr.config.errors import ConfigError
from avr.config.prompts import TemplatesConfig, templates_of
from avr.core.growth import Shape, correct, respond
from avr.core.messages import user
from avr.core.prompts import TEMPLATE_SETS, Templates
from avr.core.ratings import is_critique
from avr.core.tree import Prompt, plant


def test_the_default_set_has_the_default_words():
    assert templates_of(TemplatesConfig()) == TEMPLATE_SETS["chat"] == Templates()
    assert [templates_of(TemplatesConfig(set=name)) for name in TEMPLATE_SETS] == list(
        TEMPLATE_SETS.values()
    )


def test_texts_of_ones_own_take_the_place_of_the_sets():
    own = TemplatesConfig(set="maths", refine_request="Again.", rated=True)
    assert templates_of(own) == replace(TEMPLATE_SETS["maths"], refine_request="Again.", rated=True)
    assert templates_of(TemplatesConfig(set="maths", system="")) == TEMPLATE_SETS["maths"]


def test_every_word_of_a_template_can_be_set():
    names = {field.name for field in fields(TemplatesConfig)}
    assert names == {field.name for field in fields(Templates)} | {"set"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            TemplatesConfig(set="math"),
            "templates.set 'math': there are chat, maths, code,",
        ),
        (TemplatesConfig(critique_request=" "), "templates.critique_request is empty: the corr"),
        (TemplatesConfig(set="code", refine_request=""), "templates.refine_request is empty: the"),
        (TemplatesConfig(reference_hint="x"), "templates.reference_hint has no {reference}: the"),
    ],
)
def test_words_that_cannot_be_used_are_refused(config, words):
    with pytest.raises(ConfigError) as caught:
        templates_of(config)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(("name", "words"), TEMPLATE_SETS.items())
def test_a_set_asks_for_a_rating_where_it_wants_one(name, words):
    asks = re.search(r"\brat(?:e|ing)\b", words.critique_request, re.IGNORECASE)
    assert words.rated == (asks is not None)


def test_a_critique_needs_a_rating_only_where_one_was_asked_for():
    assert not is_critique("Step two is wrong.")
    assert is_critique("Step two is wrong.", rated=False)
    assert is_critique("Step two is wrong. [[4]]", rated=False)
    assert not is_critique("Wrong. [[4]]", rated=False)  # words are asked for in any case


@pytest.mark.parametrize("rated", [True, False])
def test_critiques_without_a_rating_are_kept_where_nobody_asked_for_one(rated):
    words = replace(Templates("CRITIQUE?", "REFINE?"), rated=rated)
    engine = ScriptedGenerate(lambda asked, number, sample: f"this is text {number}.{sample}")

    async def grown():
        tree = await respond(plant(Prompt.of((user("q"),)), "recipe"), engine, words, 1)
        return await correct(tree, engine, words, Shape(2, 1, max_tries=1))

    (level,) = asyncio.run(grown()).levels
    assert [critique.rating for critique in level.critiques] == ([] if rated else [None, None])
    assert level.num_dropped == (2 if rated else 0)
