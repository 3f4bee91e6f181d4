"""Collect a folder's reports in bench.json, and show their ratios.

    BENCHMARK_RESULTS=runs/benchmarks python benchmarks/collect.py

`make bench` ends with it. The machine and versions, which must be the same in all, are there once.
"""

import json
import sys

from measure.measuring import RESULTS

NAME = "bench.json"


def main():
    files = sorted(file for file in RESULTS.glob("*.json") if file.name != NAME)
    report = collected({file.stem: json.loads(file.read_text()) for file in files})
    (RESULTS / NAME).write_text(json.dumps(report, indent=1) + "\n")
    for name, figures in report["reports"].items():
        for what, ratio in sorted(ratios_in(figures)):
            low, high = ratio["range"]
            print(f"{name}: {what}  {ratio['median']:.2f} [{low:.2f}, {high:.2f}]")
    print(f"written: {RESULTS / NAME}")


def collected(reports):
    """Join reports as {"machine": ..., "reports": {...}}. Raises ValueError for two machines."""
    machines = {name: report["machine"] for name, report in reports.items()}
    first, *others = machines
    for name in others:
        if machines[name] != machines[first]:
            raise ValueError(f"{first} and {name} come from two machines, or two sets of versions")
    rest = {
        name: {key: value for key, value in report.items() if key != "machine"}
        for name, report in reports.items()
    }
    return {"machine": machines[first], "reports": rest}


def ratios_in(figures, path=(), inside=False):
    """List (name, ratio) of all below a key `ratios`, however deep: a ratio has a median."""
    for key, value in figures.items():
        if not isinstance(value, dict):
            continue
        if inside and "median" in value:
            yield " ".join((*path, key)), value
        elif key == "ratios":
            yield from ratios_in(value, path, inside=True)
        else:
            yield from ratios_in(value, (*path, key), inside)


if __name__ == "__main__":
    sys.exit(main())
