"""Serve `length_control` as a process: rows in JSON on stdin, one JSON line on stdout.

If something is missing it ends with status 1, and its last line on stderr names the thing.
"""

import json
import os
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ANCHORS = ("tatsu-lab/alpaca_eval", "df_gamed.csv")
# Our name of a weight -> its term in the package's formula.
TERMS = {
    "theta": "np.tanh(std_delta_len)",
    "psi": "instruction_difficulty",
    "phi": "not_gamed_baseline.astype(float)",
}


def main() -> None:
    """Check that package and anchors are there, then fit and print the result."""
    _check_versions()
    os.environ["HF_HUB_OFFLINE"] = "1"  # never a download in the middle of an evaluation
    _check_anchors()
    print(json.dumps(_fit(json.load(sys.stdin))))


def _check_versions() -> None:
    try:
        package, learn = version("alpaca_eval"), version("scikit-learn")
    except PackageNotFoundError as error:
        sys.exit(f"{error.name} is not installed: pip install 'avr[evaluation]'")
    if package != "0.6.6":
        sys.exit(f"alpaca_eval {package} is not the tested 0.6.6")
    if tuple(int(part) for part in learn.split(".")[:2]) >= (1, 10):
        sys.exit(f"alpaca_eval needs scikit-learn below 1.10, {learn} is installed")


def _check_anchors() -> None:
    from huggingface_hub import try_to_load_from_cache

    repo, file = ANCHORS
    if not isinstance(try_to_load_from_cache(repo, file, repo_type="dataset"), str):
        sys.exit(
            f"its anchor file is not on this machine; fetch it once, where there is a network: hf"
            f" download {repo} {file} --repo-type dataset"
        )


def _fit(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import pandas as pd
    from alpaca_eval.metrics import get_length_controlled_winrate

    table = pd.DataFrame(rows).assign(
        generator_1="baseline", generator_2="model", annotator="judge", index=range(len(rows))
    )
    with tempfile.TemporaryDirectory() as folder:
        found = get_length_controlled_winrate(table, save_weights_dir=folder)
        (file,) = Path(folder).rglob("*.csv")
        weights = pd.read_csv(file, index_col=0).loc["model"]
    return {
        "win_rate": found["length_controlled_winrate"],
        "standard_error": found["lc_standard_error"],
        "weights": {name: float(weights[term]) for name, term in TERMS.items()},
    }


if __name__ == "__main__":
    main()
