"""Searches that a scripted verifier judges, of prompts that hold secrets. For unit tests alone."""

import asyncio

from scripted import TEMPLATES, ScriptedGenerate

from avr.core.messages import user
from avr.core.reward import Rewarding
from avr.core.search import search
from avr.core.tree import Prompt, Verdict, plant

REFERENCE, TEST, SETUP, OWN = "THE REFERENCE 42", "THE TEST", "THE SETUP", "THE ROW'S ANSWER"
FEEDBACK = "THE FEEDBACK on"
SECRETS = (REFERENCE, TEST, SETUP, OWN, FEEDBACK)


def prompt_of(query="question", reference=REFERENCE):
    return Prompt.of((user(query),), OWN, "here:1", reference=reference, tests=(TEST,), setup=SETUP)


class Truth:
    """A verifier that gives what `reward` says, and words where that is below 1."""

    name = "maths"

    def __init__(self, reward):
        self.reward = reward

    async def score(self, prompt, answer):
        assert prompt.reference == REFERENCE
        reward = float(self.reward(answer))
        return Verdict(self.name, reward, "" if reward >= 1 else f"{FEEDBACK} {answer}.")


def numbered(conversation, number, sample):
    """Every text says which request and sample it is, whatever a critique request shows."""
    if conversation[-1].content.startswith("CRITIQUE?"):
        return f"critique {number}.{sample} of it [[7]]"
    return f"answer {number}.{sample}"


def request_of(text):
    return int(text.removeprefix("answer ").partition(".")[0])


def rising(text):
    """Never right, and better with each request: a search goes on to its largest depth."""
    return request_of(text) / 1000


def searched(shape, reward=rising, max_depth=3, prompt=None):
    """The searched tree, and the conversations of all requests."""
    engine, truth = ScriptedGenerate(numbered), Rewarding.by(Truth(reward))
    planted = plant(prompt or prompt_of(), "recipe")
    tree = asyncio.run(search(planted, engine, truth, TEMPLATES, shape, max_depth))
    return tree, [conversation for conversation, _, _ in engine.requests]
