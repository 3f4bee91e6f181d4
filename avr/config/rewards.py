"""Configure what rewards an answer: a reward model, or a verifier that knows what is right."""

from dataclasses import dataclass, field
from enum import Enum

from avr.config.fields import at_least
from avr.config.roles import EndpointConfig, RoleConfig
from avr.config.sandbox import SandboxConfig
from avr.core.reward import RUBRIC


class RewardKind(Enum):
    """Name the kinds of rewards.

    `classifier` is a Bradley-Terry reward model. `maths` compares the final answer with the row's
    reference, `code` runs the row's unit tests on the answer's program in a sandbox, and `function`
    calls your own code. `judge` is a generative model that rates answers. `ensemble` combines
    several.
    """

    classifier = "classifier"
    maths = "maths"
    code = "code"
    function = "function"
    judge = "judge"
    ensemble = "ensemble"


class Combine(Enum):
    """Name the ways to make one reward of several (`avr.core.reward.Combination`)."""

    mean = "mean"
    minimum = "minimum"
    mean_minus_deviations = "mean_minus_deviations"


@dataclass
class RaterConfig:
    """Configure a generative model that rates answers, from 1 to `best` (2 to 9).

    `rubric` asks for the rating; `{prompt}` and `{answer}` in it stand for what is rated, `{best}`
    for the number, and `{reference}`, which it need not have, for the row's solution. The model is
    asked `max_tries` times in all for a reply with a rating.
    """

    rubric: str = RUBRIC
    best: int = at_least(2, 9)
    max_tries: int = at_least(1, 3)
    endpoint: EndpointConfig | None = None


@dataclass
class JudgingConfig:
    """Configure one judge of answers.

    `reward_model` is the model of a classifier inside an ensemble; a reward that is a classifier
    alone has the job's own `reward_model`. `function` names a function `(prompt, answer) -> float`
    as "module:function"; `prompt` is an `avr.core.tree.Prompt`, with the row's `reference` and
    `tests`. It may be a coroutine. `judge` is who rates answers, and how. `sandbox` is where
    programs run. A verifier's pool in a growth has `replicas` processes, each with `num_cpus` CPUs
    and `at_a_time` trees in work.
    """

    kind: RewardKind = RewardKind.classifier
    reward_model: RoleConfig | None = None
    function: str | None = None
    judge: RaterConfig | None = None
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    replicas: int = at_least(1, 1, speed=True)
    num_cpus: float = at_least(0, 0.25, speed=True)
    at_a_time: int = at_least(1, 8, speed=True)


@dataclass
class RewardConfig(JudgingConfig):
    """Configure the reward of a job: one judge, or an ensemble of `members` by their names.

    `deviations` counts the standard deviations that `mean_minus_deviations` takes off the mean.
    With `length_calibrated` Stage I's rows are made by rewards without what they owe to length
    alone. Trees keep each judge's verdict: rows can be made again under another combination, and
    no tree is grown for it.
    """

    members: dict[str, JudgingConfig] = field(default_factory=dict)
    combine: Combine = Combine.mean
    deviations: float = at_least(0, 1.0)
    length_calibrated: bool = False
