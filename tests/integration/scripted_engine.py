"""Engines that answer from a script: for what happens around engines, not in them."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from avr.config.roles import RoleConfig
from avr.core.growth import Shape
from avr.core.messages import content_id, to_dicts
from avr.core.prompts import Templates
from avr.core.reward import Rewarding, RewardModel
from avr.core.roles import Completion, EngineDied, TreeFault

TEMPLATES = Templates(critique_request="CRITIQUE?", refine_request="REFINE?")
SHAPE = Shape()
ROLE = RoleConfig(model="scripted", use_gpu=False, num_cpus=0.5, sampling={})


class ScriptedEngine:
    """Texts and rewards are hashes of what is asked; `requests.log` tells what was asked for y0."""

    identity = "scripted None"

    def __init__(self, role, config, seed):
        self.role = role
        self._behaviour = config.env
        if "STARTS" in self._behaviour:
            with Path(self._behaviour["STARTS"]).open("a") as log:
                log.write(f"{role}\n")
        if self._behaviour.get("SCRIPT") == "does not start":
            raise ValueError("the scripted engine refuses to start")
        once = self._behaviour.get("ONCE")
        if once and Path(once).exists():
            raise ValueError("the script lets it start once")
        if once:
            Path(once).touch()

    async def generate(self, conversation, n, seed, sampling=None):
        await asyncio.sleep(float(self._behaviour.get("LATENCY", "0.02")))
        last = conversation[-1].content
        self._misbehave(last)
        if last not in ("CRITIQUE?", "REFINE?") and "REQUESTS" in self._behaviour:
            with Path(self._behaviour["REQUESTS"]).open("a") as log:
                log.write(last + "\n")
        if self._behaviour.get("SCRIPT") == "reviews" and last == "REFINE?":
            return (Completion("another review Rating: [[5]]", "stop", 4),) * n
        return tuple(Completion(*_scripted(conversation, seed + i)) for i in range(n))

    def _misbehave(self, last):
        if self._behaviour.get("SCRIPT") == "a fault" and last == "question 3":
            raise TreeFault("the script sets this one aside")
        if self._behaviour.get("SCRIPT") == "a bug" and last == "question 3":
            raise KeyError("the script has a bug")
        died = self._behaviour.get("DIED")
        if died and last == "question 3" and not Path(died).exists():
            Path(died).touch()
            raise EngineDied("the script ends the engine once")

    async def score(self, conversation):
        await asyncio.sleep(0.002)
        return _reward(conversation, self._behaviour.get("SCRIPT") == "no reward")

    @asynccontextmanager
    async def serving(self, model):
        yield self

    def identity_of(self, model, sampling):
        return f"{model} {sampling}"

    async def check_health(self):
        pass

    def shutdown(self):
        pass


class Local:
    """The same script without a cluster; `unjudged`: that of "no reward"."""

    identity = "scripted None"

    def __init__(self, unjudged=False):
        self._unjudged = unjudged

    async def generate(self, conversation, n, seed):
        return tuple(Completion(*_scripted(conversation, seed + i)) for i in range(n))

    async def score(self, conversation):
        return _reward(conversation, self._unjudged)

    @property
    def alone(self):
        """The reward that is its logit, under the name that an only reward model has."""
        return Rewarding.by(RewardModel("classifier", self.score))


def _reward(conversation, some_have_none):
    number = int(content_id(conversation[-1].content)[:6], 16)
    if some_have_none and number % 4 == 0:
        raise TreeFault("the script gives this one no reward")
    return number / 1e6


def _scripted(conversation, seed):
    mark = content_id(to_dicts(conversation), seed)
    if conversation[-1].content == "CRITIQUE?":
        return f"critique {mark} says this [[{int(mark[:4], 16) % 10 + 1}]]", "stop", 3
    return f"answer {mark}", "stop", 2
