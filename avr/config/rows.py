"""Configure the shape of trees and outputs, and the rules that make training rows of them."""

from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import MISSING

from avr.config.errors import ConfigError
from avr.config.fields import at_least
from avr.core.prompts import Context
from avr.core.search import Closing
from avr.core.trajectory import TRAJECTORY_TEMPLATES, TrajectoryTemplate


@dataclass
class TreeConfig:
    """Set the shape of a level (paper: 2 x 2) and the tries for a malformed sample (released: 5).

    `context` chooses the texts that a critique and a refinement see from the second level on, in a
    search and where a model refines answers in several rounds. With `answer` (released) they see
    the query and the current answer, with `history` (paper) also the turns that led to it. Stage
    I's growths have one level only.
    """

    num_critiques: int = at_least(1, 2)
    num_refinements: int = at_least(1, 2)
    max_tries: int = at_least(1, 5)
    context: Context = "answer"


@dataclass
class RulesConfig:
    """Choose a profile of rules (as_released, as_paper, recommended), and switch its rules."""

    profile: str = "recommended"
    switches: dict[str, bool] = field(default_factory=dict)


@dataclass
class SelectionConfig(RulesConfig):
    """Set the rules that make RSFT rows of trees.

    `kept_share` of the rows, 0 to 1, may hold an answer that was right and stays right, where a
    verifier knows (ours). Such trees are grown where `growth.criticised_share` is above 0.
    """

    kept_share: float = at_least(0, 0.0)


@dataclass
class PairsConfig(RulesConfig):
    """Set the rules for pairs; rewards must differ by more than `min_margin` (method: 0).

    It is in the reward model's logits, or in ratings where a policy judges its own answers. Pairs
    of judgements may differ by any amount.
    """

    min_margin: float = at_least(0, 0.0)


@dataclass
class TreePairsConfig(PairsConfig):
    """Set the rules for pairs made of a tree, and the kinds of pairs to make."""

    kinds: list[str] = field(default_factory=lambda: ["generation", "critique", "refinement"])


@dataclass
class TrajectoryTemplateConfig:
    """Set the separators of a user's own trajectory template, white space included."""

    start: str = MISSING
    critique: str = MISSING
    refinement: str = MISSING
    end: str = MISSING


@dataclass
class TrajectoriesConfig(RulesConfig):
    """Set the rules and the template that make training rows of searched trees.

    `template` names one of `templates` or of `avr.core.trajectory.TRAJECTORY_TEMPLATES`.
    `unchanged_share` of the rows may be trajectories in which nothing had to be changed (unless the
    rule `improved` is on). A turn that raises the reward by no more than `min_gain` logits ends the
    trajectory as if it had not improved; 0 is the released rule. `closing` chooses the critique of
    that level that ends the trajectory (`avr.core.search.closing_critique`); unset, the profile
    chooses.
    """

    template: str = "think"
    templates: dict[str, TrajectoryTemplateConfig] = field(default_factory=dict)
    unchanged_share: float = 0.1
    min_gain: float = at_least(0, 0.0)
    closing: Closing | None = None


@dataclass
class OutputsConfig:
    """Configure whole outputs of a model (released: 5 per prompt).

    `sampling` replaces the policy's sampling: a whole loop is several times as long as an answer.
    There are up to `max_tries` requests, the first included, until every output has a final answer.
    """

    num_outputs: int = at_least(2, 5)
    max_tries: int = at_least(1, 5)
    sampling: dict[str, Any] = field(default_factory=dict)


@dataclass
class OutputPairsConfig(PairsConfig):
    """Set the rules for pairs of outputs, and their number per prompt and in all.

    With `per_prompt` 2 the second best and the second worst of a prompt make a pair as well, if it
    passes the rules, and so on. The first `max_pairs` of all these are taken: the best and worst of
    every prompt come before any second pair. Pairs of judgements are not counted.

    `malformed_share` of all pairs of outputs may have a malformed output as rejected, with the best
    output of its prompt as chosen (ours; 0: none, as released).
    """

    per_prompt: int = at_least(1, 1)
    max_pairs: int | None = at_least(1, None)
    malformed_share: float = at_least(0, 0.0)


def template_of(config: TrajectoriesConfig) -> TrajectoryTemplate:
    """Find the trajectory template by its name. Raises ConfigError with the names that exist."""
    own = {name: asdict(separators) for name, separators in config.templates.items()}
    if config.template in own:
        try:
            return TrajectoryTemplate(**own[config.template])
        except ValueError as error:
            raise ConfigError(f"trajectories.templates.{config.template}: {error}") from error
    if config.template == "plain":
        raise ConfigError(
            "trajectories.template is 'plain', which has no loop to learn or to answer by;"
            " jobs/baseline.py trains on whole answers, and mode plain gives them"
        )
    if config.template not in TRAJECTORY_TEMPLATES:
        names = ", ".join(sorted({*own, *TRAJECTORY_TEMPLATES}))
        raise ConfigError(f"trajectories.template {config.template!r}: there are {names}")
    return TRAJECTORY_TEMPLATES[config.template]
