"""Run both stages and all baselines for several seeds, and make one table of them.

    python jobs/replicate.py conf/miniature/replicate.yaml [seeds=[0]] [key=value ...] [--plan]

Starts each job as its own command, one after the other, and says which; pools the answers of all
seeds into RUN_DIR/table.md, table.json and pictures. Run it again and it continues where it
stopped. With --plan it says the commands and starts nothing.
"""

import sys

from avr.replication.command import replicate

if __name__ == "__main__":
    sys.exit(replicate(__doc__))
