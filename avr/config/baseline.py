"""Configure the baselines that train a policy on its own judged answers."""

from dataclasses import dataclass, field

from avr.config.answers import EvaluationConfig
from avr.config.fields import at_least
from avr.config.prompts import PromptsConfig
from avr.config.roles import RoleConfig
from avr.config.rows import OutputPairsConfig, OutputsConfig
from avr.config.run import AskingConfig
from avr.config.training import TrainingConfig


@dataclass
class BaselinePrompts:
    """Describe the prompt set of a baseline: the policy answers `sample`."""

    sample: PromptsConfig = field(default_factory=PromptsConfig)


@dataclass
class BaselineEvaluationConfig(EvaluationConfig):
    """Configure an evaluation: the seed policy and the trained model answer held-out prompts.

    `rounds` holds r, the rounds of refinement, for the seed, which may refine its answers.
    """

    rounds: dict[str, int] = field(default_factory=lambda: {"seed": 0})


@dataclass
class BaselineConfig(AskingConfig):
    """Configure a baseline: judge, pair and train on the policy's whole answers (-> evaluate).

    As it stands it is traditional DPO. With `simpo_margin`, SimPO's gamma, and `dpo.trl.loss_type`
    `sigmoid_norm` it is SimPO. With `outputs.judgements` it is an iteration of Meta-Rewarding: the
    policy judges, and `reward_model` only evaluates. The evaluation compares with `seed_model`, the
    policy itself where it is unset.
    """

    prompts: BaselinePrompts = field(default_factory=BaselinePrompts)
    reward_model: RoleConfig = field(default_factory=RoleConfig)
    outputs: OutputsConfig = field(default_factory=OutputsConfig)
    pairs: OutputPairsConfig = field(default_factory=OutputPairsConfig)
    max_tries: int = at_least(1, 5)
    dpo: TrainingConfig = field(default_factory=TrainingConfig)
    simpo_margin: float | None = at_least(0, None)
    seed_model: str | None = None
    evaluation: BaselineEvaluationConfig | None = None
