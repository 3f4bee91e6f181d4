"""Ask a model's own code for its numbers, without weights: on no device, and with fake tensors.

torch and transformers are imported inside the functions: they take seconds.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

from avr.memory.adapter import AdapterError, adapted
from avr.memory.model import Model, Saved, UnknownMemoryError

# Models that have this setting are only right with eager attention.
EAGER = "attn_logit_softcapping"
# Settings of LoraConfig that name layers by their numbers; a dry run has only one or two layers.
_OF_SOME_LAYERS = ("layers_to_transform", "layers_pattern")


def model_of(config: Mapping[str, Any], scores: bool = False) -> Model:
    """Count the parameters of the model with this config.json; `scores`: with a head of one logit.

    Raises UnknownMemoryError for models that Transformers does not know, and for quantised weights.
    """
    return _model_of(json.dumps(config), scores)


# A plan asks the same of several steps, and each answer takes a second or more.
@cache
def _model_of(config_json: str, scores: bool) -> Model:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = json.loads(config_json)
    settings = _settings(config)
    kind: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    with torch.device("meta"), _refused(config):
        model = kind.from_config(settings, dtype=torch.bfloat16)
        decoder = settings.get_text_config()
        layers = [sum(p.numel() for p in layer.parameters()) for layer in _layers(model)]
        heads = decoder.num_attention_heads
        return Model(
            parameters=sum(p.numel() for p in model.parameters()),
            largest=max(*layers, model.get_input_embeddings().weight.numel()),
            num_layers=len(layers),
            hidden=decoder.hidden_size,
            intermediate=decoder.intermediate_size,
            num_heads=heads,
            num_kv_heads=getattr(decoder, "num_key_value_heads", None) or heads,
            head_dim=getattr(decoder, "head_dim", None) or decoder.hidden_size // heads,
            vocabulary=decoder.vocab_size,
            positions=decoder.max_position_embeddings,
        )


def trained_by(config: Mapping[str, Any], lora: Mapping[str, Any]) -> int:
    """Count the parameters that an adapter trains of the model with this config.json.

    `lora` are fields of peft's LoraConfig. Raises AdapterError where the model cannot take it, and
    UnknownMemoryError, see `model_of`.
    """
    return _trained_by(json.dumps(config), json.dumps(lora))


@cache
def _trained_by(config_json: str, lora_json: str) -> int:
    import torch
    from transformers import AutoModelForCausalLM

    config = json.loads(config_json)
    settings = _settings(config)
    kind: Any = AutoModelForCausalLM
    with torch.device("meta"), _refused(config):
        model = kind.from_config(settings, dtype=torch.bfloat16)
        model = adapted(model, json.loads(lora_json))
        return sum(p.numel() for p in model.parameters() if p.requires_grad)


def saved_by(
    config: Mapping[str, Any],
    sequences: int,
    length: int,
    *,
    bits: int = 16,
    autocast: bool = False,
    attention: str | None = None,
    lora: Mapping[str, Any] | None = None,
    wide: bool = False,
) -> Saved:
    """Run a model's layers over fake tokens; add up what they save for the backward pass.

    `sequences` rows of `length` tokens lie side by side. `bits` are those of the weights: 16
    (bfloat16) or 32; with `autocast` they compute in bfloat16 in either case. `attention` is
    Transformers' attn_implementation, by default the one that is right for the model. Its kernels
    are those of a CPU, under an attention mask; other kernels without one save less. `lora` puts an
    adapter on every layer (`wide`: in float32), also where it leaves some out. Raises AdapterError,
    and UnknownMemoryError, see `model_of`.
    """
    adapter = None
    if lora is not None:
        everywhere = {k: v for k, v in lora.items() if k not in _OF_SOME_LAYERS}
        adapter = (json.dumps(everywhere), wide)
    return _saved_by(json.dumps(config), sequences, length, bits, autocast, attention, adapter)


@cache
def _saved_by(
    config_json: str,
    sequences: int,
    length: int,
    bits: int,
    autocast: bool,
    attention: str | None,
    adapter: tuple[str, bool] | None,
) -> Saved:
    import torch

    config = json.loads(config_json)
    settings = _settings(config)
    kinds = list(getattr(settings.get_text_config(), "layer_types", None) or ["all alike"])
    period = next(n for n in range(1, len(kinds) + 1) if kinds == _tiled(kinds, n))
    dtype = torch.bfloat16 if bits == 16 else torch.float32
    soft_capped = getattr(settings.get_text_config(), EAGER, None) is not None
    chosen = attention if attention in ("eager", "sdpa") else "eager" if soft_capped else "sdpa"
    cast: AbstractContextManager[Any] = nullcontext()
    if autocast:
        cast = torch.autocast("cpu", torch.bfloat16)
    shape = (sequences, length)
    one, two = (
        _saved(config, times * period, shape, dtype, chosen, cast, adapter) for times in (1, 2)
    )
    layer = (two - one) // period
    passed_on = sequences * length * settings.get_text_config().hidden_size * bits // 8
    return Saved(fixed=one - layer * period, layer=layer, passed_on=passed_on)


def _tiled(kinds: list[str], period: int) -> list[str]:
    return (kinds[:period] * len(kinds))[: len(kinds)]


def _saved(
    config: Mapping[str, Any],
    num_layers: int,
    shape: tuple[int, int],
    dtype: Any,
    attention: str,
    cast: AbstractContextManager[Any],
    adapter: tuple[str, bool] | None,
) -> int:
    """Return the bytes of all tensors that the hidden layers save, without weights.

    A tensor that is saved twice counts once.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModelForCausalLM

    settings = _settings(config)
    decoder = settings.get_text_config()
    decoder.num_hidden_layers = num_layers
    if getattr(decoder, "layer_types", None):
        decoder.layer_types = (2 * list(decoder.layer_types))[:num_layers]
    kept: dict[int, Any] = {}
    kind: Any = AutoModelForCausalLM
    with _refused(config):
        with torch.device("meta"):
            model = kind.from_config(settings, dtype=dtype, attn_implementation=attention).train()
            decoder = model.base_model
            if adapter is not None:
                # Its layers come into the decoder. On no device peft leaves them in float32.
                model = adapted(model, json.loads(adapter[0]))
                model = model if adapter[1] else model.to(dtype)
                # As TRL does it where gradients are checkpointed; otherwise the first layer would
                # save less than the others.
                model.enable_input_require_grads()
        with FakeTensorMode():
            _onto_cpu(model)
            ours = {_storage(t) for t in (*model.parameters(), *model.buffers())}

            def pack(tensor: Any) -> Any:
                kept[_storage(tensor)] = tensor
                return tensor

            tokens = torch.zeros(shape, dtype=torch.long)
            mask = torch.ones(shape, dtype=torch.long)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved), cast:
                decoder(input_ids=tokens, attention_mask=mask, use_cache=False)
            return sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in ours)


def _onto_cpu(model: Any) -> None:
    """Give a model on no device fake tensors on a CPU, whose kernels then are those of a CPU.

    They are not made so at once, because peft moves its layers to the device of the model's, and
    torch cannot move a module of fake tensors.
    """
    import torch

    made: dict[int, Any] = {}  # tied weights stay tied
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and id(tensor) not in made:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype)
                    trained = isinstance(tensor, torch.nn.Parameter)
                    made[id(tensor)] = (
                        torch.nn.Parameter(fake, tensor.requires_grad) if trained else fake
                    )
                if tensor is not None:
                    tensors[name] = made[id(tensor)]


def _storage(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)


def _settings(config: Mapping[str, Any]) -> Any:
    """Make the configuration object, anew each time, because callers change it."""
    from transformers import AutoConfig

    if config.get("quantization_config"):
        raise UnknownMemoryError("its weights are quantised")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise UnknownMemoryError("its config.json has no model_type")
    try:
        return AutoConfig.for_model(kind, **{k: v for k, v in config.items() if k != "model_type"})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnknownMemoryError(f"Transformers cannot read its config.json: {error}") from error


@contextmanager
def _refused(config: Mapping[str, Any]) -> Iterator[None]:
    """Turn errors of Transformers and torch about a model into an UnknownMemoryError."""
    try:
        yield
    except AdapterError:
        raise
    except Exception as error:  # each model's code has errors of its own
        words = str(error).partition("\n")[0]
        raise UnknownMemoryError(f"{config['model_type']} cannot be tried out: {words}") from error


def _layers(model: Any) -> Any:
    """Return the outermost list of modules: the decoder layers."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList):
            return module
    raise UnknownMemoryError("it has no list of layers")
