"""Stage I: grow refinement trees, train on them by RSFT, grow again, train by DPO, evaluate.

    python jobs/stage1.py conf/miniature/stage1.yaml [key=value ...] [--plan]
    ray job submit --working-dir . -- python jobs/stage1.py conf/llama3_8b/stage1.yaml \\
        run_dir=/shared/runs/llama3_8b

Run it again and it continues where it stopped. `steps=[grow_rsft,select]` runs some steps only.
"""

import argparse
import sys

from avr.config import ConfigError, Stage1Config, load
from avr.versions import check_versions


def main() -> int:
    """Parse, check, and only then import what is slow."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a YAML file; conf/ holds recipes")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--plan", action="store_true", help="say what it takes, start nothing")
    arguments = parser.parse_intermixed_args()
    try:
        check_versions()
        config = load(Stage1Config, arguments.config, arguments.overrides)
        from avr.pipeline import preflight, stage1

        if arguments.plan:
            preflight.show_plan(config)
        else:
            stage1.run(config)
    except (ConfigError, RuntimeError, ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
