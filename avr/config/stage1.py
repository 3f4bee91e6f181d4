"""Configure Stage I."""

from dataclasses import dataclass, field

from avr.config.answers import EvaluationConfig
from avr.config.prompts import PromptsConfig
from avr.config.roles import GrowthConfig, RoleConfig
from avr.config.rows import RulesConfig, TreeConfig, TreePairsConfig
from avr.config.run import AskingConfig
from avr.config.training import TrainingConfig


@dataclass
class Stage1Prompts:
    """Describe two prompt sets: `rsft` for the first training's trees, `dpo` for the second's."""

    rsft: PromptsConfig = field(default_factory=PromptsConfig)
    dpo: PromptsConfig = field(default_factory=PromptsConfig)


@dataclass
class Stage1Config(AskingConfig):
    """Configure Stage I: grow, select, RSFT, grow with the RSFT model, pair, DPO (-> evaluate).

    Without a `corrector` the policy corrects itself in the same pool, as the RSFT model does in
    the second growth. Without `evaluation` that step is left out; `queries` and `serving` are for
    that step alone.
    """

    prompts: Stage1Prompts = field(default_factory=Stage1Prompts)
    corrector: RoleConfig | None = None
    reward_model: RoleConfig = field(default_factory=RoleConfig)
    tree: TreeConfig = field(default_factory=TreeConfig)
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    selection: RulesConfig = field(default_factory=RulesConfig)
    pairs: TreePairsConfig = field(default_factory=TreePairsConfig)
    rsft: TrainingConfig = field(default_factory=TrainingConfig)
    dpo: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig | None = None
