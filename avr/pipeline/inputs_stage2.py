"""Name what decides the results of Stage II's steps that ask models, for the ledger and for ids."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from avr.config.prompts import PromptsConfig
from avr.config.roles import FirstAnswer, RoleConfig
from avr.config.stage2 import Stage2Config
from avr.config.texts import template_of
from avr.core.messages import content_id
from avr.data.prompt_sets import content_of
from avr.engines.weights import weights_id
from avr.pipeline.plan_stage2 import own_judge_of
from avr.pipeline.run import context_settings, model_settings, tree_settings


def search_inputs(config: Stage2Config) -> dict[str, Any]:
    """Inputs of the search; the default of a later setting is not named, so older runs continue."""
    from_input = config.first_answer == FirstAnswer.input
    return {
        **_asked(config, config.policy, config.prompts.search),
        "tree": tree_settings(config.tree),
        "max_depth": config.max_depth,
        **({"first_answer": "input"} if from_input else {}),
    }


def sample_inputs(config: Stage2Config, policy: RoleConfig) -> dict[str, Any]:
    """Inputs of whole outputs; of judgements only where the policy judges, and then no reward."""
    asked = _asked(config, policy, config.prompts.sample) | {"outputs": asdict(config.outputs)}
    if own_judge_of(config):
        del asked["reward_model"]
    else:
        del asked["outputs"]["judgements"], asked["outputs"]["meta_request"]
    return asked | {"template": asdict(template_of(config.trajectories))}


def evaluation_inputs(config: Stage2Config, models: Mapping[str, str]) -> dict[str, Any]:
    """Inputs of the evaluation of these models, by name."""
    assert config.evaluation is not None
    return {
        **_asked(config, config.policy, config.evaluation.prompts),
        "models": {name: weights_id(model) for name, model in models.items()},
        "evaluation": asdict(config.evaluation),
        "sampling": whole_sampling(config, config.policy),
        "max_tries": config.tree.max_tries,
        "template": asdict(template_of(config.trajectories)),
        **context_settings(config.tree.context),
    }


def whole_sampling(config: Stage2Config, policy: RoleConfig) -> dict[str, Any]:
    """Sampling of whole outputs: the policy's, with what is said for outputs laid over."""
    return {**policy.sampling, **config.outputs.sampling}


def recipe_of(inputs: Mapping[str, Any]) -> str:
    """What a query grows from, less where the prompts lie: they do not change what grows."""
    return content_id({key: value for key, value in inputs.items() if key != "prompts"})


def _asked(config: Stage2Config, policy: RoleConfig, prompts: PromptsConfig) -> dict[str, Any]:
    return {
        "prompts": {**asdict(prompts), "content": content_of(prompts)},
        "templates": asdict(config.templates),
        "policy": model_settings(policy),
        "reward_model": model_settings(config.reward_model),
        "seed": config.seed,
    }
