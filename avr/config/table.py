"""Every knob of the table that compares models, and of its replications."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from avr.config.answers import Mode
from avr.config.fields import at_least
from avr.config.prompts import PromptsConfig
from avr.config.roles import QueriesConfig, RoleConfig, ServingConfig
from avr.config.rows import TrajectoriesConfig
from avr.config.run import RunConfig
from avr.core.prompts import Context


@dataclass
class EntrantConfig:
    """A model and how it answers: one row of the table, or in mode refine one for each r from 0.

    `trained` are the model folders that trainings of ours left on the way to it, in order; it is
    the last of them, and the items that they were trained on are counted. `model` is a model that
    no training of ours made. `best_of` answers (mode plain) and the one with the highest reward is
    taken; of these only the first that, together, cost no more tokens than `tokens_of` (another
    entrant's name) spent on the same prompt, at the least one.
    """

    model: str | None = None
    trained: list[str] = field(default_factory=list)
    mode: Mode = Mode.plain
    rounds: int = at_least(0, 0)
    best_of: int = at_least(1, 1)
    tokens_of: str | None = None


@dataclass
class TableConfig(RunConfig):
    """Entrants answer the same held-out prompts and are compared with the baseline's answers.

    One pool of the policy's engines loads each entrant's weights in turn; `policy.model` is the one
    it starts with. `baseline` names an entrant; its answers without refinement are what others are
    compared with. `thinking` is laid over the policy's sampling for entrants of mode recursive.
    `right` is the quality by the oracle from which on an answer counts as right. A prompt that one
    of the runs of `trained` models used is not asked. `runs_dir` is for recipes to name those by.
    `max_tries` are for a text that is empty or has no rating, of modes refine and plain with one
    answer; samples and recursive outputs get one try. `context` is that of `TreeConfig`, for the
    rounds of mode refine.
    """

    runs_dir: str | None = None
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    baseline: str = MISSING
    entrants: dict[str, EntrantConfig] = field(default_factory=dict)
    policy: RoleConfig = field(default_factory=RoleConfig)
    thinking: dict[str, Any] = field(default_factory=dict)
    reward_model: RoleConfig = field(default_factory=RoleConfig)
    max_tries: int = at_least(1, 5)
    context: Context = "answer"
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    oracle: str | None = None
    right: float = 1.0
    queries: QueriesConfig = field(default_factory=QueriesConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)


@dataclass
class ReplicaJobConfig:
    """One command of a replication: `python jobs/JOB.py CONFIG run_dir=FOLDER/NAME OVERRIDES`.

    In overrides `{folder}` is the replication's folder and `{seed}` its seed. `takes` maps the
    first steps to a job before this one, whose results of them are copied instead of made again;
    they are refused where that job's settings are others.
    """

    job: str = MISSING
    config: str = MISSING
    overrides: list[str] = field(default_factory=list)
    takes: dict[str, str] = field(default_factory=dict)


@dataclass
class ReplicateConfig:
    """The same jobs once for each of `seeds`, each seed in its own folder, and one table of all.

    `table` names the job whose answers are pooled, `search` the one whose searched trees are
    followed turn by turn. `efficiency` are rows of the table to be drawn over what they were
    trained on. `orderings` are claims that are held against the answers: `ROW < ROW` about quality
    (without an oracle: reward), `ROW < ROW by characters` about length.
    """

    run_dir: str = MISSING
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    jobs: dict[str, ReplicaJobConfig] = field(default_factory=dict)
    table: str = "table"
    search: str | None = None
    efficiency: list[str] = field(default_factory=list)
    orderings: list[str] = field(default_factory=list)
