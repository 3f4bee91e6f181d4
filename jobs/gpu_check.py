"""Check a rented machine or a cluster before real money is spent.

    python jobs/gpu_check.py [--cpu] [key=value ...]
    ray job submit --working-dir . -- python jobs/gpu_check.py run_dir=/shared/runs/gpu_check

Versions, GPUs, disks, an all-reduce; engines, rewards and trainings through the paths that jobs
take, with the tiny models of this package. Settings: conf/gpu_check.yaml, or with --cpu
conf/gpu_check_cpu.yaml. `checks=[host,rsft]` makes some only. Writes RUN_DIR/gpu_check.json; ends
with 0 where something was checked and nothing failed. docs/guides/gpu_check.md says what each line
means.
"""

import sys
from pathlib import Path

from avr.checks.settings import GpuCheckConfig, check
from avr.config.load import load
from avr.run.command import parser_of, status_of

CONF = Path(__file__).parents[1] / "conf"


def main() -> int:
    """Run the checks; return the exit status. A user's mistake is one line on stderr."""
    parser = parser_of(__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--cpu", action="store_true", help="two small processes instead of GPUs")
    arguments = parser.parse_intermixed_args()
    file = CONF / ("gpu_check_cpu.yaml" if arguments.cpu else "gpu_check.yaml")

    def checked() -> int:
        config = load(GpuCheckConfig, file, arguments.overrides)
        check(config)
        # Imports Ray, which takes seconds: a misspelt key is found before.
        from avr.checks.run import run

        return run(config)

    return status_of(checked, kept="there is no report")


if __name__ == "__main__":
    sys.exit(main())
