"""The recipe of a configuration, and what the runner makes of it before anything starts."""

from importlib import import_module
from pathlib import Path

from avr.run.decided import fields_of
from avr.run.runner import asked_for
from avr.run.runner import checked as checked_by_the_runner
from avr.run.step import Step

PAGES = [import_module(f"avr.recipes.{f.stem}") for f in Path("avr/recipes").glob("[a-z]*.py")]
MODULES = {page.SCHEMA: page for page in PAGES}


def recipe_of(config):
    return MODULES[type(config)].recipe(config)


def steps_of(config):
    """The steps asked for, by name."""
    return {step.name: step for step in asked_for(config, recipe_of(config))}


def needs(config):
    """The plans of the steps asked for; nothing is checked."""
    plans = [step.needs() for step in steps_of(config).values()]
    return [plan for plan in plans if plan is not None]


def uses_of(config):
    return [use for step in steps_of(config).values() for use in step.uses()]


def checked(config):
    """The plans, after all that a run checks before it starts."""
    recipe = recipe_of(config)
    recipe.ready()
    return checked_by_the_runner(config, recipe)


def planned(config):
    """The plans, after all that --plan checks."""
    same = getattr(MODULES[type(config)], "planned", lambda same: same)
    return checked_by_the_runner(same(config), recipe_of(same(config)))


def decided(config, name):
    """What decides the result of a step; earlier steps by their names."""

    def other(value):
        return value.name if isinstance(value, Step) else NotImplemented

    return fields_of(steps_of(config)[name], other, name)
