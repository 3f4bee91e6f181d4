"""Fit AlpacaEval's own length-controlled win rate by its package, in a process of its own.

The package sets a global option of scikit-learn, writes into its own installation and downloads.
None of that may happen in this process.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from avr.evaluation.alpaca import Weights, check_aligned


class LengthControlUnavailable(RuntimeError):
    """Signal a missing package or anchor file; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """Hold `length_controlled_v1` and its standard error, in percent, and the fitted weights."""

    win_rate: float
    standard_error: float
    weights: Weights


def length_controlled(
    preferences: Sequence[float],
    outputs: Sequence[str],
    baseline_outputs: Sequence[str],
    instructions: Sequence[str],
) -> LengthControlled:
    """Compute the number on AlpacaEval's leaderboard, for AlpacaEval's instructions alone.

    Each row of `outputs` and `preferences` belongs to the same row of `instructions`. Raises
    AlignmentError where these are not AlpacaEval's 805 in their order, and
    LengthControlUnavailable.
    """
    check_aligned(instructions)
    rows = zip(preferences, baseline_outputs, outputs, strict=True)
    table = [{"preference": p, "output_1": b, "output_2": o} for p, b, o in rows]
    command = [sys.executable, "-m", "avr.evaluation.length_control_process"]
    run = subprocess.run(
        command, input=json.dumps(table), capture_output=True, text=True, check=False
    )
    if run.returncode:
        words = run.stderr.strip().splitlines() or ["it said nothing"]
        raise LengthControlUnavailable(f"no length-controlled win rate: {words[-1]}")
    found = json.loads(run.stdout.splitlines()[-1])
    return LengthControlled(found["win_rate"], found["standard_error"], Weights(**found["weights"]))
