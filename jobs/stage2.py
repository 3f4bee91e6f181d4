"""Run Stage II: search greedily, train on whole trajectories, sample whole outputs, train by DPO.

    python jobs/stage2.py conf/miniature/stage2.yaml [key=value ...] [--plan]
    ray job submit --working-dir . -- python jobs/stage2.py conf/llama3_8b/stage2.yaml \\
        run_dir=/shared/runs/llama3_8b-stage2 stage1_dir=/shared/runs/llama3_8b

Searches with the model that Stage I ended with (`stage1_dir`), and trains that model or, with
`start=policy`, the untrained one (`seed_model`). Run it again and it continues where it stopped.
`steps=[search,unroll]` runs some steps only.
"""

import sys

from avr.run.command import job

if __name__ == "__main__":
    sys.exit(job(__doc__, "avr.recipes.stage2"))
