"""Report the results of checks: as a table on the screen, and as a JSON file for programs."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from avr.checks.outcome import Outcome, Result
from avr.storage import Location, write_text
from avr.terminal import CONSOLE, table

_COLOURS = {Outcome.passed: "green", Outcome.failed: "bold red", Outcome.skipped: "yellow"}


def report(results: Sequence[Result], machine: Mapping[str, Any], devices: int) -> dict[str, Any]:
    """Return the content of the JSON file; `passed`: nothing failed, and something was checked."""
    outcomes = [result.outcome for result in results]
    return {
        "passed": Outcome.failed not in outcomes and Outcome.passed in outcomes,
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": round(sum(result.seconds for result in results), 1),
        "devices": devices,
        "machines": machine,
        "checks": [asdict(result) for result in results],
    }


def show(results: Sequence[Result]) -> None:
    """Print one line for each check, and how many ended in each way."""
    shown = table("Checks", ("check", "", "seconds"), left=("check", ""), no_wrap=True)
    shown.add_column("found")
    for result in results:
        colour = _COLOURS[result.outcome]
        outcome = f"[{colour}]{result.outcome}[/{colour}]"
        shown.add_row(result.name, outcome, f"{result.seconds:.1f}", escape(result.words))
    CONSOLE.print(shown)
    counts = [
        f"{count} {outcome}"
        for outcome in Outcome
        if (count := sum(result.outcome == outcome for result in results))
    ]
    CONSOLE.print(", ".join(counts))


def write(file: Location, content: Mapping[str, Any]) -> None:
    """Write the JSON file and say where it is."""
    write_text(file, json.dumps(content, indent=1, default=str))
    CONSOLE.print(f"report: {file}", markup=False, soft_wrap=True)
