"""Check an all-reduce over all devices, in Ray Train's worker group as trainings make it."""

import os
import statistics
import time
from typing import Any

from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train import TrainingFailedError as RayTrainingFailed
from ray.train.torch import TorchConfig

from avr.checks.outcome import CheckFailed, Finding
from avr.storage import Location, arrow_filesystem, path_of
from avr.training.failures import first_cause, headline
from avr.training.group import Trainer

REPEATS = 5


def check_all_reduce(
    folder: Location, devices: int, use_gpu: bool, mib: int, timeout_s: float
) -> Finding:
    """Check that every rank gets the right sums; measure GB/s on each rank's link."""
    trainer = Trainer(
        reduce_on_rank,
        train_loop_config={"mib": mib},
        torch_config=TorchConfig(
            backend="nccl" if use_gpu else "gloo", timeout_s=max(1, int(timeout_s / 2))
        ),
        scaling_config=ScalingConfig(num_workers=devices, use_gpu=use_gpu),
        run_config=RunConfig(
            name="all_reduce",
            storage_path=path_of(folder),
            storage_filesystem=arrow_filesystem(folder).get("filesystem"),
            failure_config=FailureConfig(max_failures=0),
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )
    try:
        figures = dict(trainer.fit().return_value)
    except RayTrainingFailed as error:
        failures = getattr(error, "worker_failures", None)
        if not failures:
            raise
        rank, text = first_cause(failures)
        raise CheckFailed(f"rank {rank}: {headline(text)}") from error
    if figures["num_wrong"]:
        raise CheckFailed(f"{figures['num_wrong']} sums are wrong", figures)
    ranks = f"{devices} rank{'s' * (devices != 1)}"
    if figures["gb_per_s"] is None:
        return Finding(f"{ranks}, {figures['backend']}: right; nothing to measure", figures)
    rate = f"{figures['gb_per_s']:.3g} GB/s a rank (bus) in {figures['seconds'] * 1000:.3g} ms"
    return Finding(f"{ranks}, {figures['backend']}: right sums, {rate}", figures)


def reduce_on_rank(settings: dict[str, Any]) -> dict[str, Any]:
    """Reduce `mib` MiB of float32 on one rank; rank 0's figures reach the driver.

    Bus bandwidth is that of NCCL's own tests: 2 (n - 1) / n times the bytes over the seconds.
    """
    import torch
    import torch.distributed as dist
    from ray.train.torch import get_device

    device, rank, size = get_device(), dist.get_rank(), dist.get_world_size()
    number = settings["mib"] * (1 << 20) // 4
    numbers = torch.full((number,), float(rank + 1), device=device)
    dist.all_reduce(numbers)
    wrong = (numbers != size * (size + 1) / 2).sum()
    dist.all_reduce(wrong)
    seconds = []
    for _ in range(REPEATS):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(numbers.zero_())
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    took = statistics.median(seconds)
    where: list[Any] = [None] * size
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    dist.all_gather_object(where, f"{os.uname().nodename}: {name}")
    return {
        "backend": dist.get_backend(),
        "num_wrong": int(wrong.item()),
        "mib": settings["mib"],
        "seconds": round(took, 5),
        "gb_per_s": _bus(number * 4, size, took) if size > 1 else None,
        "ranks": where,
    }


def _bus(num_bytes: int, size: int, seconds: float) -> float:
    return round(2 * (size - 1) / size * num_bytes / seconds / 1e9, 3)
