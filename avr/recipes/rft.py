"""Train the policy on its own right answers: rejection-sampling fine-tuning (RFT)."""

from dataclasses import dataclass, field

from avr.config.prompts import PromptsConfig, templates_of
from avr.config.rewards import RewardConfig
from avr.config.rows import OutputsConfig, RulesConfig
from avr.config.run import AskingConfig
from avr.config.training import TrainingConfig
from avr.core.trajectory import PLAIN
from avr.rewards.reward import reward_of
from avr.run.recipe import Recipe
from avr.steps.rows import Keep, rules_of
from avr.steps.sample import Sample
from avr.steps.train import Train
from avr.training.methods.rsft import Rsft


@dataclass
class RftPrompts:
    """Describe the prompt set of RFT: the policy answers `sample`."""

    sample: PromptsConfig = field(default_factory=PromptsConfig)


@dataclass
class RftConfig(AskingConfig):
    """Configure RFT: sample answers, keep those that a verifier calls right, train on them.

    What AvR adds to it is what refining adds: the trees of Stage I cost as many texts as
    `outputs.num_outputs` says where it is 1 + critiques + refinements of a tree.
    """

    prompts: RftPrompts = field(default_factory=RftPrompts)
    reward: RewardConfig = field(default_factory=RewardConfig)
    outputs: OutputsConfig = field(default_factory=OutputsConfig)
    selection: RulesConfig = field(default_factory=RulesConfig)
    rsft: TrainingConfig = field(default_factory=TrainingConfig)


SCHEMA = RftConfig


def recipe(c: RftConfig) -> Recipe:
    """Sample whole answers -> keep the right ones -> SFT. Raises ConfigError."""
    words = templates_of(c.templates)
    outputs = Sample(
        "sample",
        c.prompts.sample,
        c.policy,
        reward_of(c.reward, None),
        words,
        PLAIN,
        c.outputs,
        c.seed,
        c.queries,
        c.serving,
        title="Answers of the policy",
    )
    rows = Keep("keep", outputs, rules_of("selection", "rft", c.selection), words)
    return Recipe("RFT", (outputs, rows, Train("rsft", Rsft(), c.rsft, c.policy.model, rows)))
