"""Check the settings of a recipe against the shape in a model's config.json. Pure.

The rules are vLLM's own (`ModelConfig`, and the assertions of its attention layers). Here each is
one line before anything starts; vLLM would say it in an engine on a rented node.
"""

from collections.abc import Mapping
from typing import Any

from avr.config.errors import ConfigError
from avr.config.roles import RoleConfig
from avr.config.training import TrainingConfig
from avr.memory.model import shared_evenly

_POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# Kinds of rotary scaling for which config.json states the scaled positions; other kinds multiply
# the positions there.
_SCALED_ALREADY = frozenset({"su", "longrope", "llama3", "yarn", "deepseek_yarn"})
_SCALED_ALREADY |= {"deepseek_llama_scaling"}
_KV_HEADS = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num")
# The share of positions that a message suggests for an output beside its prompt.
_OUTPUT_SHARE = 0.75


def positions(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens a model can hold, prompt and output together; None if it says nothing.

    Rotary scaling is counted as vLLM counts it.
    """
    part = text_part(config)
    said = [part[key] for key in _POSITIONS if part.get(key) is not None]
    if part.get("model_max_length"):
        said = [part["model_max_length"]]
    return int(min(said) * _rope_factor(part)) if said else None


def heads(config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the numbers of attention heads and of KV heads; 0 where the config does not say."""
    part = text_part(config)
    query = int(part.get("num_attention_heads") or part.get("n_head") or 0)
    said = [int(part[key]) for key in _KV_HEADS if part.get(key) is not None]
    return query, said[0] if said else query


def num_labels(config: Mapping[str, Any]) -> int:
    """Return how many logits a sequence classifier gives; two, Transformers' default, if unsaid."""
    return len(config.get("id2label") or range(int(config.get("num_labels", 2))))


def check_engine(
    role: str,
    settings: RoleConfig,
    model: str,
    config: Mapping[str, Any],
    outputs: Mapping[str, Mapping[str, Any]],
) -> None:
    """Raise ConfigError where an engine of this role could not start, or no prompt would fit.

    `model` is the model's name in the message. `outputs` maps names of settings to the sampling
    there.
    """
    engine = settings.engine
    config = _overridden(config, engine.get("hf_overrides"))
    most = positions(config)
    asked = engine.get("max_model_len")
    if most is not None:
        if isinstance(asked, int) and asked > most:
            raise ConfigError(
                f"{role}.engine.max_model_len is {asked}, and {model} has {most} positions: it must"
                f" be at most {most}"
            )
        for at, sampling in outputs.items():
            tokens = sampling.get("max_tokens")
            if isinstance(tokens, int) and tokens >= most:
                raise ConfigError(
                    f"{at}.max_tokens is {tokens}, and {model} has {most} positions for prompt and"
                    f" output together: {int(most * _OUTPUT_SHARE)}, say, leaves room for a prompt"
                )
    _check_parallel(role, engine.get("tensor_parallel_size", 1), model, config)


def check_classifier(name: str, model: str, config: Mapping[str, Any]) -> None:
    """Raise ConfigError where a reward model is no sequence classifier with one logit."""
    kinds = config.get("architectures") or ["unknown"]
    if not kinds[0].endswith("ForSequenceClassification"):
        raise ConfigError(f"{name}: {model} is a {kinds[0]}, not a sequence classifier")
    labels = num_labels(config)
    if labels != 1:
        raise ConfigError(
            f"{name}: {model} has {labels} labels; a Bradley-Terry reward model has one"
        )


def check_generator(name: str, model: str, config: Mapping[str, Any]) -> None:
    """Raise ConfigError where a model that is to generate is a sequence classifier."""
    kinds = config.get("architectures") or ["unknown"]
    if kinds[0].endswith("ForSequenceClassification"):
        raise ConfigError(f"{name}: {model} is a {kinds[0]}, which generates no text")


def check_lengths(
    kind: str, training: TrainingConfig, model: str, config: Mapping[str, Any]
) -> None:
    """Raise ConfigError where `trl.max_length` lets rows be longer than the model's positions.

    A null sets no limit and is not checked.
    """
    most, asked = positions(config), training.trl.get("max_length")
    if most is not None and isinstance(asked, int) and asked > most:
        raise ConfigError(
            f"{kind}.trl.max_length is {asked}, and {model} has {most} positions: it must be at"
            f" most {most}"
        )


def _check_parallel(role: str, size: Any, model: str, config: Mapping[str, Any]) -> None:
    query, kv = heads(config)
    if not query or not isinstance(size, int) or shared_evenly(query, kv, size):
        return
    right = [str(n) for n in range(1, query + 1) if shared_evenly(query, kv, n)]
    raise ConfigError(
        f"{role}.engine.tensor_parallel_size is {size}, and {model} has {query} attention heads and"
        f" {kv} KV heads, which are shared evenly by {', '.join(right)}"
    )


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's description: all of the config, but a part in multimodal ones."""
    part = config.get("text_config")
    return part if isinstance(part, Mapping) else config


def _rope_factor(part: Mapping[str, Any]) -> float:
    # Gemma-3 states the scaled positions, too.
    if "gemma3" in str(part.get("model_type")):
        return 1.0
    rope = part.get("rope_parameters") or part.get("rope_scaling") or {}
    by_layer = [each for each in rope.values() if isinstance(each, Mapping)]
    factor = 1.0
    for each in by_layer or [rope]:
        if each.get("rope_type", each.get("type", "default")) not in _SCALED_ALREADY:
            factor = float(each.get("factor") or factor)
    return factor


def _overridden(config: Mapping[str, Any], overrides: Any) -> Mapping[str, Any]:
    """Return the config with vLLM's `hf_overrides` laid over it."""
    if not isinstance(overrides, Mapping):
        return config
    merged = dict(config)
    for key, value in overrides.items():
        before = merged.get(key)
        nested = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = _overridden(before, value) if nested else value  # type: ignore[arg-type]
    return merged
