"""Train the policy on its own judged answers: traditional DPO, SimPO, Meta-Rewarding.

    python jobs/baseline.py conf/miniature/baseline_dpo.yaml [key=value ...] [--plan]
    python jobs/baseline.py conf/miniature/baseline_simpo.yaml
    python jobs/baseline.py conf/miniature/meta_rewarding.yaml

AvR is compared with these, on the same prompts and with the same reward model. Run it again and it
continues where it stopped.
"""

import sys

from avr.run.command import job

if __name__ == "__main__":
    sys.exit(job(__doc__, "avr.recipes.baseline"))
