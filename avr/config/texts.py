"""Find the trajectory template that a configuration names."""

from dataclasses import asdict

from avr.config.errors import ConfigError
from avr.config.rows import TrajectoriesConfig
from avr.core.trajectory import PLAIN, TRAJECTORY_TEMPLATES, TrajectoryTemplate


def template_of(config: TrajectoriesConfig) -> TrajectoryTemplate:
    """The trajectory template that is named. Raises ConfigError naming those there are."""
    own = {name: asdict(separators) for name, separators in config.templates.items()}
    if config.template in own:
        try:
            return TrajectoryTemplate(**own[config.template])
        except ValueError as error:
            raise ConfigError(f"trajectories.templates.{config.template}: {error}") from error
    known = TRAJECTORY_TEMPLATES | {"plain": PLAIN}
    if config.template not in known:
        names = ", ".join(sorted({*own, *known}))
        raise ConfigError(f"trajectories.template {config.template!r}: there are {names}")
    return known[config.template]
