"""Train two steps of RSFT and one of DPO on miniature rows, by `avr.training.launch`."""

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray

from avr.checks.models import prepared
from avr.checks.outcome import CheckFailed, Finding
from avr.checks.reference import QUERY
from avr.checks.settings import GpuCheckConfig
from avr.config.training import TrainingConfig
from avr.data.schemas import PAIRS, RSFT_ROWS
from avr.data.tables import write_rows
from avr.hosting.cluster import place
from avr.miniature.making.demonstrations import CORRECTOR, POLICY, draw_answer
from avr.miniature.prompts import draw_requests
from avr.miniature.world import Request, render_answer, render_prompt
from avr.plan.resources import StepPlan, workers
from avr.storage import Location
from avr.terminal import indented
from avr.training.job import TrainingResult
from avr.training.launch import train
from avr.training.methods.dpo import Dpo
from avr.training.methods.method import Method
from avr.training.methods.rsft import Rsft

NUM_ROWS = 256
# In the first DPO step the policy equals its reference: there is no margin, so the loss is ln 2.
FIRST_DPO_LOSS, ROUNDING = math.log(2), 0.05


def check_rsft(config: GpuCheckConfig, devices: int, folder: Location, reference: Any) -> Finding:
    """Check that RSFT steps on all devices leave a model that loads and has new weights."""
    rows = folder / "rsft_rows.parquet"
    write_rows(rows, rsft_rows(), RSFT_ROWS)
    return _trained(Rsft(), config, config.rsft, devices, folder, rows, reference)


def check_dpo(config: GpuCheckConfig, devices: int, folder: Location, reference: Any) -> Finding:
    """Check a DPO step after its reference pass; a first and only step has a loss of ln 2."""
    rows = folder / "dpo_rows.parquet"
    write_rows(rows, dpo_rows(), PAIRS)
    return _trained(Dpo(), config, config.dpo, devices, folder, rows, reference)


def _trained(
    method: Method,
    config: GpuCheckConfig,
    training: TrainingConfig,
    devices: int,
    folder: Location,
    rows: Location,
    reference: Any,
) -> Finding:
    training, kind = replace(training, num_workers=devices), method.name
    place(
        StepPlan(kind, (workers(config.policy.model, method, training),), True, 0.0),
        config.placement_timeout_s,
        indented,
    )
    model = prepared(config.policy.model, folder / "models" / f"before_{kind}")
    result = train(kind, method, training, model, rows, folder / kind, say=indented)
    loss = result.metrics.get("loss", result.metrics.get("train_loss", math.nan))
    figures = {
        "ranks": devices,
        "steps": result.num_steps,
        "loss": loss,
        "rows": result.num_trained,
        "seconds": result.seconds,
        "metrics": result.metrics,
    }
    problem = _problem(kind, training, result, loss)
    if problem is None and not ray.get(reference.has_learned.remote(model, result.model)):
        problem = "training did not change the weights"
    if problem:
        raise CheckFailed(problem, figures)
    figures["says"] = ray.get(reference.says.remote(result.model, QUERY, 24))
    ranks = f"{devices} rank{'s' * (devices != 1)}"
    steps = f"{result.num_steps} step{'s' * (result.num_steps != 1)}"
    return Finding(f"{steps} on {ranks} in {result.seconds:.0f} s, loss {loss:.4f}", figures)


def _problem(
    kind: str, training: TrainingConfig, result: TrainingResult, loss: float
) -> str | None:
    """Say what is wrong with the training's own figures; None where nothing is."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    asked = training.trl.get("max_steps")
    if asked and result.num_steps != asked:
        return f"{result.num_steps} steps were made, {asked} were asked for"
    plain = training.trl.get("loss_type", "sigmoid") == "sigmoid"
    if kind == "dpo" and asked == 1 and plain and abs(loss - FIRST_DPO_LOSS) > ROUNDING:
        return (
            f"the loss of the first step is {loss:.4f}, not ln 2: the policy and its reference, the"
            " same weights, give other log-probabilities"
        )
    return None


def _requests(kind: str) -> Iterator[tuple[int, Request, random.Random]]:
    rng = random.Random(f"gpu check {kind}")
    requests = draw_requests("train", rng)
    for index in range(NUM_ROWS):
        yield index, next(requests), rng


def rsft_rows() -> Iterator[dict[str, Any]]:
    """Make prompts of the miniature world with faultless answers."""
    for index, request, rng in _requests("rsft"):
        answer = render_answer(request, draw_answer(request, CORRECTOR, rng))
        messages = [_turn("user", render_prompt(request)), _turn("assistant", answer)]
        yield {"id": f"rsft-{index}", "messages": messages, "node_ids": [], "gain": 0.0}


def dpo_rows() -> Iterator[dict[str, Any]]:
    """Make prompts with a faultless answer, preferred to one with the policy's faults."""
    for index, request, rng in _requests("dpo"):
        chosen, rejected = (
            [_turn("assistant", render_answer(request, draw_answer(request, profile, rng)))]
            for profile in (CORRECTOR, POLICY)
        )
        yield {
            "id": f"dpo-{index}",
            "kind": "generation",
            "prompt": [_turn("user", render_prompt(request))],
            "chosen": chosen,
            "rejected": rejected,
            "margin": 1.0,
            "node_ids": [],
        }


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
