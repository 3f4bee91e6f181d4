"""Record which steps of a run are done, and under which settings, so that a job can continue."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from avr.config.run import Resume
from avr.storage import Location, location, reached, write_text


class LedgerError(RuntimeError):
    """Signal a run directory and a configuration that do not belong together."""


class Ledger:
    """Record a run's steps: one JSON file per step in `folder`.

    `say` gets one line about each step. `before_work` is called before any work, and not where all
    was done before: a run that finds nothing to do starts no cluster.
    """

    def __init__(
        self,
        folder: Location,
        say: Callable[[str], None],
        before_work: Callable[[], None] = lambda: None,
    ):
        self._folder = folder
        self._say = say
        self._before_work = before_work

    def step(
        self, name: str, inputs: Mapping[str, Any], work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the result of `work`, done now or before.

        A step that was done, or begun, under other inputs is neither redone nor mixed: LedgerError
        says what differs. A step that was begun and not finished runs again and continues by its
        own means.
        """
        entry = self._read(name)
        # As they will be read from the file, where tuples are lists: only so can they be compared.
        stated = json.loads(json.dumps(inputs))
        if entry is not None:
            self._check_same(name, entry, stated)
            if "result" in entry:
                self._say(f"{name}: done before, in {entry['seconds']:.0f} s")
                return dict(entry["result"])
        self._before_work()
        self._say(f"{name}: {'continues' if entry else 'starts'}")
        spent = entry["seconds"] if entry else 0.0
        # Before the work: a step that is killed is then known to have begun under these inputs.
        self._write(name, {"inputs": stated, "seconds": spent})
        started = time.monotonic()
        try:
            result = work()
        # A stop from outside is no `Exception`; its seconds count, too.
        except BaseException:
            seconds = spent + time.monotonic() - started
            self._write(name, {"inputs": stated, "seconds": seconds})
            raise
        seconds = spent + time.monotonic() - started
        self._write(name, {"inputs": stated, "seconds": seconds, "result": result})
        self._say(f"{name}: done in {seconds:.0f} s")
        return result

    def result(self, name: str) -> dict[str, Any]:
        """Return the result of a step that was done. Raises LedgerError where it was not."""
        entry = self._read(name)
        if entry is None or "result" not in entry:
            raise LedgerError(
                f"{self._folder.parent} has no result of step {name}; run that step first"
            )
        return dict(entry["result"])

    def take(self, name: str, other: "Ledger", copy: Callable[[], None]) -> bool:
        """Take over a step that another run has done, in no time; `copy` brings the files it left.

        The step still refuses other settings. Returns whether the step is that run's: a step that
        was begun here is left alone, and the steps after it must then be made here too. Raises
        LedgerError where the other run has not done it.
        """
        origin = str(other._folder.parent)
        entry = self._read(name)
        if entry is not None:
            return bool(entry.get("taken_from") == origin)
        result, inputs = other.result(name), other.inputs(name)
        # Copied before it is written down: a copy that was cut short is not a step that is done.
        copy()
        self._say(f"{name}: taken from {origin}")
        entry = {"inputs": inputs, "seconds": 0.0, "result": result}
        self._write(name, entry | {"taken_from": origin})
        return True

    def inputs(self, name: str) -> dict[str, Any]:
        """Return the inputs of a step that was done."""
        self.result(name)
        entry = self._read(name)
        assert entry is not None
        return dict(entry["inputs"])

    def begun(self, name: str) -> dict[str, Any]:
        """Return the inputs of a step that was begun."""
        entry = self._read(name)
        assert entry is not None
        return dict(entry["inputs"])

    def check_resume(self, resume: Resume) -> None:
        """Raise LedgerError where `resume` forbids the run there is, or demands a missing one."""
        begun = sorted(file.stem for file in self._folder.glob("*.json"))
        folder = self._folder.parent
        if resume == Resume.never and begun:
            raise LedgerError(
                f"resume is 'never', but {folder} holds a run (steps begun: {', '.join(begun)}); "
                "choose another run_dir"
            )
        if resume == Resume.always and not begun:
            raise LedgerError(
                f"resume is 'always', but {folder} holds no run to continue; check run_dir"
            )

    def seconds(self) -> dict[str, float]:
        """Return the wall time of each step that was done, over its runs that were not killed."""
        entries = {f.stem: json.loads(f.read_text()) for f in self._folder.glob("*.json")}
        return {name: e["seconds"] for name, e in entries.items() if "result" in e}

    def check_same(self, name: str, now: Mapping[str, Any]) -> None:
        """Raise LedgerError where a step that was begun was begun under other inputs."""
        self._check_same(name, {"inputs": self.begun(name)}, json.loads(json.dumps(now)))

    def _check_same(self, name: str, entry: Mapping[str, Any], now: Any) -> None:
        changes = list(_changes(entry["inputs"], now))
        if not changes:
            return
        made = f"step {name} of {self._folder.parent} was made under other settings"
        advice = (
            "Choose another run_dir, go back to those settings, "
            f"or remove {self._folder / name}.json and {self._folder.parent / name} to redo it."
        )
        if "taken_from" in entry:
            made = f"step {name} was taken from {entry['taken_from']}, made under other settings"
            advice = "Go back to those settings, or do not take it and remove what was copied."
        raise LedgerError(f"{made} ({'; '.join(changes[:5])}). {advice}")

    def _read(self, name: str) -> dict[str, Any] | None:
        file = self._folder / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else None

    def _write(self, name: str, entry: Mapping[str, Any]) -> None:
        write_text(self._folder / f"{name}.json", json.dumps(entry, indent=1))


def done_in(run_dir: str) -> dict[str, float]:
    """Return the wall time of each step that was done in a run directory, if it is there."""
    folder = location(run_dir)
    with reached("run_dir", folder):
        return Ledger(folder / "ledger", print).seconds()


def _changes(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """List the leaves that differ, as `key: before -> now`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _changes(before.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif before != now:
        yield f"{path}: {json.dumps(before)[:60]} -> {json.dumps(now)[:60]}"
