"""Hold the reward of a job: which judges give verdicts, in which pools, and how they combine."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.rewards import Combine, JudgingConfig, RewardConfig, RewardKind
from avr.config.roles import RoleConfig
from avr.core.reward import Combination, Rewarding
from avr.core.roles import Score
from avr.rewards.code import Code
from avr.rewards.function import Function
from avr.rewards.maths import Maths
from avr.rewards.rater import rater_of
from avr.rewards.verifier import Verifier


@dataclass(frozen=True)
class Classifier:
    """Describe a Bradley-Terry reward model as a judge; `pool` is the role of its engines."""

    name: str
    pool: str
    role: RoleConfig


Judge = Classifier | Verifier
_VERIFIERS: dict[RewardKind, Callable[[str, JudgingConfig], Verifier]] = {
    RewardKind.maths: Maths.of,
    RewardKind.code: Code.of,
    RewardKind.function: Function.of,
}


@dataclass(frozen=True)
class Reward:
    """Hold the judges of a job and how their verdicts become one reward."""

    judges: tuple[Judge, ...]
    combination: Combination

    def for_trees(self) -> "Reward":
        """Return the same judges under the plain mean, for trees whose rows combine them anew.

        So another combination does not ask for other trees.
        """
        return replace(self, combination=Combination(self.combination.members))

    @property
    def pools(self) -> dict[str, RoleConfig]:
        """Return the roles of the reward models, whose engines have pools."""
        return {each.pool: each.role for each in self.judges if isinstance(each, Classifier)}

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """Return the judges that need no engine of ours."""
        return tuple(each for each in self.judges if isinstance(each, Verifier))

    @property
    def truth(self) -> Verifier | None:
        """Return the judge that knows what is right, the first of several; None without one."""
        return next((each for each in self.verifiers if each.exact), None)

    @property
    def truth_name(self) -> str:
        """Return the name of the judge that knows what is right; "" without one."""
        return self.truth.name if self.truth else ""

    def record(self) -> dict[str, Any]:
        """Return what a run's record must say of its verifiers, by name; {} for nothing."""
        said = {each.name: dict(each.record()) for each in self.verifiers}
        return {"verifiers": said} if any(said.values()) else {}

    def check(self, prompts: PromptsConfig, at: str) -> None:
        """Raise ConfigError for a verifier that cannot work, or lacks what it needs of a row.

        `at` is the setting that holds the prompts.
        """
        for verifier in self.verifiers:
            verifier.check(prompts, at)

    def reach(self) -> None:
        """Raise ConfigError where a server that judges is not reached, before engines start."""
        for verifier in self.verifiers:
            verifier.reach()

    def rewarding(self, score: Callable[[str, str], Score]) -> Rewarding:
        """Make what judges answers; `score(name, pool)` gives the judge behind a pool."""
        judges = (
            score(each.name, each.pool) if isinstance(each, Classifier) else each
            for each in self.judges
        )
        return Rewarding(tuple(judges), self.combination)


def reward_of(config: RewardConfig, reward_model: RoleConfig | None) -> Reward:
    """Return the reward of a configuration. Raises ConfigError, which names the setting."""
    if config.kind != RewardKind.ensemble:
        name = config.kind.value
        if config.reward_model is not None:
            raise ConfigError("reward.reward_model: it is 'reward_model', at the top")
        judge = _judge("reward", name, config, reward_model, "reward_model")
        if reward_model is not None and not isinstance(judge, Classifier):
            raise ConfigError(f"reward_model is set, but reward.kind is {name}; leave one out")
        return Reward((judge,), Combination((name,)))
    _check_used("reward", config)
    if config.deviations != RewardConfig.deviations and (
        config.combine != Combine.mean_minus_deviations
    ):
        raise ConfigError(
            f"reward.deviations is set, but reward.combine is {config.combine.value},"
            " not mean_minus_deviations"
        )
    if not config.members:
        raise ConfigError("reward.members is empty: which judges are the ensemble?")
    if reward_model is not None:
        raise ConfigError(
            "reward_model is set, but reward.kind is ensemble; move it to"
            " reward.members.NAME.reward_model"
        )
    judges = []
    for name, member in config.members.items():
        # It is a part of folders' and files' names.
        if not (name.isascii() and name.isidentifier()):
            raise ConfigError(
                f"reward.members: the name {name!r} must have letters, digits and _ alone, and no"
                " digit first"
            )
        at = f"reward.members.{name}"
        judges.append(_judge(at, name, member, member.reward_model, f"{at}.reward_model"))
    members = tuple(judge.name for judge in judges)
    return Reward(tuple(judges), Combination(members, config.combine.value, config.deviations))


def _judge(
    at: str, name: str, config: JudgingConfig, reward_model: RoleConfig | None, pool: str
) -> Judge:
    if config.kind == RewardKind.ensemble:
        raise ConfigError(f"{at}.kind is ensemble: an ensemble holds no other one")
    _check_used(at, config)
    if config.kind == RewardKind.judge:
        return rater_of(at, name, config)
    if config.kind == RewardKind.classifier:
        if reward_model is None:
            raise ConfigError(f"{pool} is not set: which model rewards answers?")
        return Classifier(name, pool, reward_model)
    try:
        return _VERIFIERS[config.kind](name, config)
    except ConfigError as error:
        raise ConfigError(f"{at}.{error}") from error


# Settings that one kind alone looks at.
_USED_BY = {
    "reward_model": RewardKind.classifier,
    "function": RewardKind.function,
    "judge": RewardKind.judge,
    "sandbox": RewardKind.code,
    "members": RewardKind.ensemble,
    "combine": RewardKind.ensemble,
    "deviations": RewardKind.ensemble,
}


def _check_used(at: str, config: JudgingConfig) -> None:
    """Raise ConfigError for a setting that the kind would ignore."""
    unset = type(config)()
    for name, kind in _USED_BY.items():
        is_set = getattr(config, name, None) != getattr(unset, name, None)
        if is_set and config.kind != kind:
            raise ConfigError(
                f"{at}.{name} is set, but {at}.kind is {config.kind.value}, not {kind.value}"
            )


def only_classifier(reward_model: RoleConfig) -> Reward:
    """Make the reward that is one reward model's."""
    return reward_of(RewardConfig(), reward_model)
