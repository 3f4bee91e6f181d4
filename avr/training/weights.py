"""Make the trained model a plain Hugging Face folder with nothing else in it."""

import json
from pathlib import Path
from typing import Any

from avr.engines.weights import hub_name

NOT_THE_MODEL = ("training_args.bin",)  # a pickle; its content is in the run's manifest


def finish(folder: Path, dtype: str | None) -> None:
    """Leave only the model in a folder, fit for generation.

    With a `dtype` ("bfloat16") its weights are cast.
    """
    for name in NOT_THE_MODEL:
        (folder / name).unlink(missing_ok=True)
    changes: dict[str, object] = {"use_cache": True}  # the trainer switches it off and saves that
    if dtype is not None:
        _cast(folder, dtype)
        changes["dtype"] = dtype
    for file in folder.rglob("*"):  # weights are written so that only their owner can read them
        if file.is_file():
            file.chmod(0o644)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes, indent=2) + "\n")


# All that an adapter is; the trainer puts a tokenizer, a card and its settings beside it.
THE_ADAPTER = ("adapter_model.safetensors", "adapter_config.json")


def merge(adapter: Path, trained: Any, model: str, dtype: str | None) -> Any:
    """Return the model at `model` with an adapter merged into it, in the model's own dtypes.

    `trained` is the trainer's model, of which the class and the settings are taken. A sum of a
    weight and what the adapter adds is computed in float32 and rounded once. In 16 bits both would
    be rounded before, and what an adapter adds is small: of bfloat16's 8 bits of a weight it may
    change the last one or two. With `dtype` "float32" it is not rounded at all.
    """
    import torch
    from peft import PeftModel
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    # Otherwise the model would be loaded in shares of all ranks, of which only this one is here.
    unset_hf_deepspeed_config()
    after = trained.get_base_model()
    base = type(after).from_pretrained(
        model, dtype=torch.float32 if dtype == "float32" else "auto", use_safetensors=True
    )
    dtypes = {name: tensor.dtype for name, tensor in base.named_parameters()}
    # peft keeps the adapter in float32 (`autocast_adapter_dtype`), and torch then adds in float32.
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    for name, tensor in merged.named_parameters():
        tensor.data = tensor.data.to(dtypes[name])
    merged.config, merged.generation_config = after.config, after.generation_config
    return merged


def keep_adapter(folder: Path, model: str) -> None:
    """Leave only the adapter in a folder, with `model`, the name of the one that it is for."""
    for file in folder.iterdir():
        if file.name not in THE_ADAPTER:
            file.unlink()
    config = folder / "adapter_config.json"
    name, revision = hub_name(model)
    its = {"base_model_name_or_path": name, "revision": revision}
    config.write_text(json.dumps(json.loads(config.read_text()) | its, indent=2) + "\n")


def _cast(folder: Path, dtype: str) -> None:
    """Cast the weights in each safetensors file in turn: one shard in memory at a time."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            metadata = tensors.metadata()
            cast = {k: tensors.get_tensor(k).to(getattr(torch, dtype)) for k in tensors.keys()}  # noqa: SIM118
        partial = file.with_suffix(".partial")
        save_file(cast, partial, metadata=metadata)
        partial.replace(file)
