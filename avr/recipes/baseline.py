"""Train the policy on its own judged answers: traditional DPO, SimPO, Meta-Rewarding."""

from avr.config.answers import Mode
from avr.config.baseline import BaselineConfig
from avr.config.rows import TreeConfig
from avr.core.trajectory import PLAIN
from avr.plan.checks import check_rounds
from avr.run.recipe import Recipe
from avr.run.step import Step
from avr.steps.answer import Entrant
from avr.steps.evaluate import Evaluate
from avr.steps.rows import PairOutputs, rules_of
from avr.steps.sample import Sample
from avr.steps.train import Train
from avr.training.methods.dpo import Dpo
from avr.training.methods.simpo import Simpo

SCHEMA = BaselineConfig


def recipe(c: BaselineConfig) -> Recipe:
    """Sample whole answers -> pair -> DPO (-> evaluate). Raises ConfigError."""
    judge = None if c.outputs.judgements else c.reward_model
    oracle = c.evaluation.oracle if c.evaluation else None
    outputs = Sample(
        "sample",
        c.prompts.sample,
        c.policy,
        judge,
        c.templates,
        PLAIN,
        c.outputs,
        c.seed,
        c.queries,
        c.serving,
        title="Answers of the model that DPO starts from",
        oracle=oracle,
    )
    rules = rules_of("pairs", "outputs", c.pairs)
    pairs = PairOutputs("pair", outputs, rules, c.pairs, c.templates)
    method = Dpo() if c.simpo_margin is None else Simpo(margin=c.simpo_margin)
    dpo = Train("dpo", method, c.dpo, c.policy.model, pairs)
    steps: list[Step] = [outputs, pairs, dpo]
    if c.evaluation is not None:
        rounds = c.evaluation.rounds
        check_rounds(rounds, ("seed",))
        seed = c.seed_model or c.policy.model
        at = "seed_model" if c.seed_model else "policy.model"
        entrants = (
            Entrant("seed", seed, Mode.refine, rounds.get("seed", 0), at=at),
            Entrant("baseline dpo", dpo),
        )
        tree, more = TreeConfig(1, 1, c.max_tries), {"apart_from": (outputs,), "oracle": oracle}
        asked, judge = c.evaluation.prompts, c.reward_model
        steps.append(Evaluate.of(c, "evaluate", asked, entrants, judge, PLAIN, tree, **more))
    return Recipe("Baseline", tuple(steps))
