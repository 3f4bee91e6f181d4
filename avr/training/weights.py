"""Make the trained model a plain Hugging Face folder with nothing else in it."""

import json
from pathlib import Path

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
    for file in folder.iterdir():  # weights are written so that only their owner can read them
        file.chmod(0o644)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes, indent=2) + "\n")


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
