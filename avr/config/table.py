"""Configure the table that compares models, and its replications."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from avr.config.answers import Mode
from avr.config.fields import at_least
from avr.config.prompts import PromptsConfig
from avr.config.rewards import RewardConfig
from avr.config.roles import RoleConfig
from avr.config.rows import TrajectoriesConfig
from avr.config.run import AskingConfig
from avr.core.prompts import Context


@dataclass
class EntrantConfig:
    """Describe a model and how it answers: one row of the table; mode refine has one per r from 0.

    `trained` lists the model folders that our trainings left on the way to the model, in order. The
    model is the last of them, and the items that they were trained on are counted. `model` is a
    model that none of our trainings made. In mode plain the model gives `best_of` answers, and the
    one with the highest reward is taken. With `tokens_of` (another entrant's name) only the first
    of them count: together they cost no more tokens than that entrant spent on the same prompt, but
    there is at least one.
    """

    model: str | None = None
    trained: list[str] = field(default_factory=list)
    mode: Mode = Mode.plain
    rounds: int = at_least(0, 0)
    best_of: int = at_least(1, 1)
    tokens_of: str | None = None


@dataclass
class TableConfig(AskingConfig):
    """Configure a job that compares entrants' answers to held-out prompts with a baseline's.

    One pool of the policy's engines loads each entrant's weights in turn; `policy.model` is the
    model it starts with. `baseline` names an entrant; the others are compared with its answers
    without refinement. `thinking` overrides the policy's sampling for entrants of mode recursive.
    An answer counts as right from the quality `right` on, by
    the oracle or, without one, by a reward that knows what is right. A prompt that a run of the
    `trained` models used is not asked. `runs_dir` lets recipes name these runs. A text that is
    empty or has no rating gets `max_tries` in mode refine, and in mode plain with one answer;
    samples and recursive outputs get one try. `context` is the one of `TreeConfig`, for the rounds
    of mode refine.
    """

    runs_dir: str | None = None
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    baseline: str = MISSING
    entrants: dict[str, EntrantConfig] = field(default_factory=dict)
    thinking: dict[str, Any] = field(default_factory=dict)
    reward: RewardConfig = field(default_factory=RewardConfig)
    reward_model: RoleConfig | None = None
    max_tries: int = at_least(1, 5)
    context: Context = "answer"
    trajectories: TrajectoriesConfig = field(default_factory=TrajectoriesConfig)
    oracle: str | None = None
    right: float = 1.0


@dataclass
class ReplicaJobConfig:
    """Describe a replication's command: `python jobs/JOB.py CONFIG run_dir=FOLDER/NAME OVERRIDES`.

    In overrides `{folder}` is the replication's folder and `{seed}` its seed. `takes` maps the
    first steps to an earlier job. That job's results of these steps are copied instead of made
    again; they are refused where its settings differ.
    """

    job: str = MISSING
    config: str = MISSING
    overrides: list[str] = field(default_factory=list)
    takes: dict[str, str] = field(default_factory=dict)


@dataclass
class ReplicateConfig:
    """Configure a replication: the same jobs for each of `seeds`, and one table of all.

    `table` names the job that gives the answers to pool, `search` the job that gives the searched
    trees to follow turn by turn. `efficiency` lists rows of the table that are drawn over the
    number of items they were trained on. `orderings` lists claims that are compared with the
    answers: `ROW < ROW` about quality (without an oracle: reward), `ROW < ROW by characters` about
    length.
    """

    run_dir: str = MISSING
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    jobs: dict[str, ReplicaJobConfig] = field(default_factory=dict)
    table: str = "table"
    search: str | None = None
    efficiency: list[str] = field(default_factory=list)
    orderings: list[str] = field(default_factory=list)
