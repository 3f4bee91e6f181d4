"""Take in prompts, check roles and open pools of engines, for all steps that ask models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from avr.config.errors import ConfigError
from avr.config.prompts import PromptsConfig
from avr.config.roles import (
    CorrectingConfig,
    QueriesConfig,
    RoleConfig,
    Sees,
    ServingConfig,
    is_reward_model,
)
from avr.config.rows import TreeConfig
from avr.core.growth import Shape, take_answer
from avr.core.prompts import Templates
from avr.core.tree import Prompt, RefinementTree, plant
from avr.data.ids import Ids
from avr.data.prompt_sets import Ingested, ingest
from avr.data.schemas import prompt_of
from avr.data.tables import read_rows
from avr.data.used_prompts import prompts_of
from avr.engines.folders import check_model
from avr.engines.settings import check_role
from avr.plan.checks import check_replicas
from avr.plan.resources import Pool, engines
from avr.rewards.reward import Reward
from avr.run.step import Run, Step
from avr.storage import Location
from avr.terminal import indented

if TYPE_CHECKING:
    from avr.serving.pools import Pools


def check_roles(roles: Mapping[str, RoleConfig]) -> None:
    """Raise ConfigError for a role whose settings or model cannot be used; it names the setting."""
    check_replicas(roles)
    for name, role in roles.items():
        scores = is_reward_model(name)
        check_model(f"{name}.model", role.model, scores=scores)
        check_role(name, role, scores=scores)


def check_truth(config: CorrectingConfig, reward: Reward, prompts: PromptsConfig, at: str) -> None:
    """Raise ConfigError where a corrector is to see what nobody knows, and the like."""
    needs_truth = {
        "corrector_sees is feedback": config.corrector_sees == Sees.feedback,
        "criticised_share is below 1": config.criticised_share < 1,
    }
    for what, is_so in needs_truth.items():
        if is_so and reward.truth is None:
            raise ConfigError(
                f"{what}, but nothing knows whether an answer is right: reward.kind must be"
                " maths or code, or an ensemble with such a member"
            )
    if not 0 <= config.criticised_share <= 1:
        raise ConfigError(f"criticised_share is {config.criticised_share}, must be 0 to 1")
    if config.corrector_sees == Sees.reference and not prompts.reference_field:
        raise ConfigError(f"corrector_sees is reference, but {at}.reference_field is not set")


def shape_of(tree: TreeConfig, config: CorrectingConfig, reward: Reward) -> Shape:
    """Return the shape of levels that are grown for training, where the corrector may be helped."""
    return Shape(
        **asdict(tree),
        sees=config.corrector_sees.value,
        truth=reward.truth_name,
        criticised_share=config.criticised_share,
    )


def judges_of(reward: Reward, samples: int, *, verifiers: bool = False) -> list[Pool]:
    """Plan the pools of a reward, which judges so many answers a prompt.

    Outside of growths `verifiers` work in the tasks that ask, and have no pool.
    """
    pooled = [engines(name, role, samples) for name, role in reward.pools.items()]
    if verifiers:
        pooled += [engines(f"verifier {v.name}", v.role, samples) for v in reward.verifiers]
    return pooled


def take_in(
    run: Run,
    step: Step,
    prompts: PromptsConfig,
    *,
    apart_from: Sequence[Step] = (),
    others: Mapping[str, Ids] = MappingProxyType({}),
    needs_answer: bool = False,
) -> Ingested:
    """Read a step's prompts into its folder, and say which rows cannot be used.

    Prompts that one of the steps `apart_from` uses, and those among the `others`, cannot be used.
    """
    folder = run.of(step)
    rejected = folder / "rejected.parquet"
    taken = {**prompts_of(run.folder, [other.name for other in apart_from]), **others}
    ingested = ingest(prompts, folder / "prompts.parquet", rejected, needs_answer, taken)
    if ingested.num_quarantined:
        said = f"{ingested.num_quarantined} of {ingested.num_rows} input rows cannot be used:"
        indented(said)
        # A few rows as examples: there may be very many, and the file holds them all.
        for row in islice(read_rows(rejected), 3):
            indented(f"  {row['source']}: {row['reason']}")
        indented(f"  all of them: {rejected}")
    return ingested


@contextmanager
def pools(
    run: Run,
    step: Step,
    roles: Mapping[str, RoleConfig],
    queries: QueriesConfig,
    serving: ServingConfig,
    witness: Any,
    look: Callable[[], None] = lambda: None,
) -> Iterator["Pools"]:
    """Open a pool of engines on Ray Serve for each role, once the cluster has room for all.

    Whenever pools are checked, `look` is called and the meter ticks; both may end the step by
    raising.
    """
    from avr.serving.pools import Pools

    def on_check() -> None:
        look()
        run.meter.tick()

    hosted = [run.hosted(step, role, settings, queries) for role, settings in roles.items()]
    pooled = Pools(hosted, serving, witness, on_check)
    # Pools open inside `placed`, so they have ended when device-hours are no longer counted.
    with run.placed(step), pooled as up:
        yield up


def check_words(run: Run, step: Step, grown: Step, templates: Templates) -> None:
    """Raise ConfigError where rows would ask in other words than their trees were grown with."""
    words = run.ledger.inputs(grown.name)["templates"]
    if any(words[name] != text for name, text in asdict(templates).items()):
        raise ConfigError(
            f"templates differ from those of step {grown.name}; "
            "go back to them, or grow again in another run_dir"
        )


def prompts_in(folder: Location) -> Iterator[Prompt]:
    """Read the prompts that were taken in, in their order."""
    return map(prompt_of, read_rows(folder / "prompts.parquet"))


def planted_in(folder: Location, recipe: str, from_input: bool) -> Iterator[RefinementTree]:
    """Plant a tree for each prompt that was taken in; `from_input`: with the row's answer as y0."""
    trees = (plant(prompt, recipe) for prompt in prompts_in(folder))
    return map(take_answer, trees) if from_input else trees
