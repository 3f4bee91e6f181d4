"""Run Stage I: grow refinement trees, train on them by RSFT, grow again, train by DPO, evaluate.

    python jobs/stage1.py conf/miniature/stage1.yaml [key=value ...] [--plan]
    ray job submit --working-dir . -- python jobs/stage1.py conf/llama3_8b/stage1.yaml \\
        run_dir=/shared/runs/llama3_8b

Run it again and it continues where it stopped. `steps=[grow_rsft,select]` runs some steps only.
"""

import sys

from avr.run.command import job

if __name__ == "__main__":
    sys.exit(job(__doc__, "avr.recipes.stage1"))
