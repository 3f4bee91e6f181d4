"""Report a run's progress: one JSON line per event, written by rank 0, shown on the driver.

The events are in a file on the run's shared storage. `ray.train.report` would be a barrier of all
ranks, and the file outlives the run. One line of text per logging step reaches the driver's
terminal; everything else that the ranks print is in `logs/rank-N.log`.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from avr.storage import Location, append, is_remote, read_bytes
from avr.terminal import Pace

SHOWN = {  # TRL's metric -> the word on the progress line
    "loss": "loss",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "grad_norm": "grad_norm",
    "learning_rate": "lr",
}


def append_event(path: Location, event: Mapping[str, Any]) -> None:
    """Append one event with its time. Each is a single write, so a kill leaves whole lines."""
    try:
        append(path, json.dumps({**event, "time": time.time()}) + "\n")
    except Exception:  # a store that cannot be reached for a moment ends no training
        if not is_remote(path):
            raise


def line_of(name: str, event: Mapping[str, Any], pace: Pace) -> str | None:
    """Write an event as one line for people; None if it is not worth one. `pace` counts steps."""
    if event["event"] == "begin":
        text = f"{name}: {event['num_trained']} rows, {event['max_steps']} steps"
        if event["num_too_long"]:
            text += f", {event['num_too_long']} rows over {event['max_length']} tokens left out"
        if event.get("num_unusable"):
            text += f", {event['num_unusable']} unusable rows left out ({event['unusable']})"
        return text + (f", continuing after step {event['step']}" if event["step"] else "")
    if event["event"] == "failure":
        return f"{name}: rank {event['rank']} failed: {event['cause']}"
    if event["event"] == "checkpoint":
        return None
    metrics = event["metrics"]
    if "loss" not in metrics:
        return None
    shown = [f"{word} {_number(metrics[key])}" for key, word in SHOWN.items() if key in metrics]
    step, last = event["step"], event["max_steps"]
    words = pace.words(step, last - step, event["time"])
    return f"{name}: step {step}/{last}{words}: " + " ".join(shown)


def _number(value: Any) -> str:
    return f"{float(value):.4g}"


class Follower:
    """Read events appended to files in a thread, and pass a line about each to `say`.

    It looks every half second, or every 5 seconds where a file is in an object store.
    """

    def __init__(self, name: str, paths: Sequence[Location], say: Callable[[str], None]):
        self._name, self._say = name, say
        self._every_s = 5.0 if any(map(is_remote, paths)) else 0.5
        # From the end of each file: lines of an earlier call are not shown again.
        self._positions = {path: path.stat().st_size if path.exists() else 0 for path in paths}
        self._pace = Pace(0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._drain()

    def _follow(self) -> None:
        while not self._done.wait(self._every_s):
            self._drain()

    def _drain(self) -> None:
        for path in self._positions:
            with suppress(Exception):  # a store that cannot be reached for a moment
                if path.exists():
                    self._read_on(path)

    def _read_on(self, path: Location) -> None:
        for raw in read_bytes(path)[self._positions[path] :].splitlines(keepends=True):
            if not raw.endswith(b"\n"):
                return  # half a line: read again next time
            self._positions[path] += len(raw)
            event = json.loads(raw)
            # A restarted group begins again; steps before the restart do not count for its pace.
            if event["event"] == "begin":
                self._pace = Pace(event["step"])
                self._pace.look(True, event["time"])
            line = line_of(self._name, event, self._pace)
            if line:
                self._say(line)
