"""Configure jobs in which models answer prompts, or refine the answers of other models."""

from dataclasses import dataclass, field
from enum import Enum

from avr.config.fields import at_least
from avr.config.prompts import PromptsConfig
from avr.config.roles import EndpointConfig, RoleConfig
from avr.config.rows import TrajectoriesConfig, TreeConfig
from avr.config.run import AskingConfig


@dataclass
class EvaluationConfig:
    """Configure an evaluation of Stage I: the seed and both trained models answer held-out prompts.

    `oracle` names a function `(prompt, answer) -> quality in [0, 1]` as "module:function", for
    worlds where the truth is known. `rounds` holds r, the rounds of refinement, for the seed and
    for the model of each training step.
    """

    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    rounds: dict[str, int] = field(default_factory=lambda: {"seed": 1, "rsft": 1, "dpo": 2})
    oracle: str | None = None


class Mode(Enum):
    """Name the ways in which a model can answer.

    `plain` answers once, `refine` refines its answer for `rounds` rounds when asked, and
    `recursive` writes the whole loop by itself in one generation.
    """

    plain = "plain"
    refine = "refine"
    recursive = "recursive"


class JudgeKind(Enum):
    """Name the kinds of judges that compare two answers."""

    endpoint = "endpoint"
    reward_model = "reward_model"
    oracle = "oracle"


@dataclass
class DuelEndpointConfig(EndpointConfig):
    """Configure a server that judges duels.

    A verdict is asked for `max_tries` times in all. Prices are per million tokens.
    `queries.max_queries_in_flight` bounds the number of duels that are judged at a time.
    """

    max_tries: int = at_least(1, 3)
    price_prompt: float = at_least(0, 0.0, speed=True)
    price_completion: float = at_least(0, 0.0, speed=True)


@dataclass
class JudgeConfig:
    """Configure one judge. `oracle` is a "module:function" as in `EvaluationConfig`.

    `reward_model` should be one that had no part in training or selection.
    """

    kind: JudgeKind = JudgeKind.endpoint
    endpoint: DuelEndpointConfig = field(default_factory=DuelEndpointConfig)
    reward_model: RoleConfig | None = None
    oracle: str | None = None


class Format(Enum):
    """Name the benchmarks that define the files and the numbers of an evaluation."""

    alpaca_eval = "alpaca_eval"
    arena_hard = "arena_hard"


@dataclass
class EvaluateConfig(AskingConfig):
    """Configure a job: a model answers a prompt set, a judge compares it with a baseline.

    `baseline` is a file of answers (`prompt_field`, `answer_field`) to the same prompts; without
    one there is nothing to judge. `name` is the model's name in the files that are written.
    `rounds` is r, the rounds of refinement in mode refine.
    """

    name: str = "model"
    format: Format = Format.alpaca_eval
    mode: Mode = Mode.plain
    rounds: int = at_least(0, 0)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    baseline: PromptsConfig | None = None
    tree: TreeConfig = field(default_factory=lambda: TreeConfig(1, 1))
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)


@dataclass
class RefineConfig(AskingConfig):
    """Configure a job in which our model refines any model's answers for `rounds` rounds.

    `answers` is a file with a prompt and an answer per row. With a `reward_model` each round takes
    the best of its refinements; rounds go on only while the answer gets better, and an answer that
    no refinement beats stays. Without one each round takes the first refinement. With an `oracle`
    ("module:function") the report says whether refinement helped.
    """

    name: str = "refined"
    rounds: int = at_least(1, 1)
    oracle: str | None = None
    answers: PromptsConfig = field(
        default_factory=lambda: PromptsConfig(prompt_field="instruction", answer_field="output")
    )
    reward_model: RoleConfig | None = None
    tree: TreeConfig = field(default_factory=lambda: TreeConfig(1, 1))
