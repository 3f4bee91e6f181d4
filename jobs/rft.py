"""Train the policy on its own right answers: rejection-sampling fine-tuning (RFT).

    python jobs/rft.py conf/maths/rft.yaml [key=value ...] [--plan]

AvR is compared with it, on the same prompts and with as many texts a prompt. Run it again and it
continues where it stopped.
"""

import sys

from avr.run.command import job

if __name__ == "__main__":
    sys.exit(job(__doc__, "avr.recipes.rft"))
