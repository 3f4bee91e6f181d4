"""Print the pools and devices of steps, and a forecast of their costs."""

from collections.abc import Iterable, Sequence

from avr.plan.forecast import Forecast, RoleForecast
from avr.plan.memory import PoolMemory
from avr.plan.resources import StepPlan
from avr.terminal import CONSOLE, number, table


def print_plan(plan: Sequence[StepPlan]) -> None:
    """Print what each step starts, and the least it needs."""
    columns = ("step", "pool", "replicas", "each", "texts per prompt", "least needed")
    shown = table("Plan", columns, left=columns)
    for step in plan:
        cpus, gpus = step.least()
        least = f"{cpus:g} CPUs, {gpus:g} GPUs" + ("" if step.together else ", one by one")
        for n, pool in enumerate(step.pools):
            replicas = f"{pool.min_replicas}-{pool.max_replicas}"
            each = f"{pool.cpus:g} CPUs, {pool.gpus:g} GPUs"
            name = f"{pool.name}: {pool.model}{', trained by this run' if pool.trained else ''}"
            first = (step.step, least) if n == 0 else ("", "")
            shown.add_row(first[0], name, replicas, each, str(pool.samples or "-"), first[1])
    CONSOLE.print(shown)
    CONSOLE.print(
        "least needed: what a step waits for before it begins: all its pools at their smallest\n"
        "(the largest of them where they take turns), and CPUs for the tasks around them."
    )


def print_memory(memory: Sequence[PoolMemory]) -> None:
    """Print what one GPU has to hold for an engine or a training rank; nothing without any."""
    if not memory:
        return
    columns = ("step", "pool", "GiB", "made of")
    shown = table("Memory of one GPU", columns, left=columns)
    for one in (one for one in memory if not one.unknown):
        shown.add_row(one.step, one.pool, one.amount, one.parts)
    if shown.rows:
        CONSOLE.print(shown)
    for one in memory:
        if one.unknown:
            words = f"{one.step}: memory of {one.pool} could not be worked out: {one.unknown}"
            CONSOLE.print(words, markup=False)
        elif one.tight:
            words = f"; what would help: {one.helps}" if one.helps else ""
            CONSOLE.print(f"{one.step}: {one.pool} is tight: {one.amount}{words}", markup=False)
    if any(one.allowed is None and not one.unknown for one in memory):
        CONSOLE.print(
            "GPU memory is unknown here; give gpu_memory_gib=80, say, or --cluster FILE\n"
            "with known machines."
        )


def print_roles(forecasts: Iterable[RoleForecast], unknown: Sequence[str]) -> None:
    """Print the work of each role; for `unknown` steps the length of texts was not measured."""
    columns = ("step", "role", "texts", "generated tokens", "busy", "held")
    shown = table("Calls, retries not counted", columns, left=("step", "role"))
    known = False
    for row in forecasts:
        hours = (number(hours, ".3g") for hours in (row.busy, row.held))
        shown.add_row(row.step, row.role, f"{row.texts:,}", number(row.tokens, ",.0f"), *hours)
        known = known or row.busy is not None
    CONSOLE.print(shown)
    if unknown:
        CONSOLE.print(
            f"{', '.join(unknown)}: whole outputs, each as long as several texts of a tree. The\n"
            "small run's trees do not show their length; --mean-tokens sets a guess for all."
        )
    if known:
        CONSOLE.print(
            "busy: device-hours of the role's generation. held: of all devices of the step while\n"
            "its slowest role generates, which is what a run counts. Scoring, training and starts\n"
            "of engines come on top."
        )


def print_forecast(forecasts: Iterable[Forecast], others: Sequence[str]) -> None:
    """Print what each step and all will take; `others`: models of the small run."""
    if others:
        CONSOLE.print(
            f"The small run had other models ({'; '.join(others)}); the figures below are theirs.",
            markup=False,
        )
    columns = ("step", "prompts", "generated tokens", "device-hours", "GiB on disk")
    shown = table("What it will take", columns, left=("step",))
    rows = list(forecasts)
    for row in rows:
        hours, gib = number(row.device_hours, ".3g"), number(row.gib, ".3g")
        shown.add_row(row.step, f"{row.prompts:,}", number(row.tokens, ",.0f"), hours, gib)
    all_hours = sum(row.device_hours or 0.0 for row in rows)
    all_gib = sum(row.gib or 0.0 for row in rows)
    shown.add_row("all known", "", "", f"{all_hours:.3g}", f"{all_gib:.3g}")
    CONSOLE.print(shown)
    CONSOLE.print(
        "All figures, starts of engines too, are scaled by the number of prompts: a run of few\n"
        "prompts overestimates, and one with other models, replicas or devices is no estimate."
    )
