"""Let several models answer the same held-out prompts; a table says how they compare.

    python jobs/table.py conf/miniature/table.yaml runs_dir=RUNS [key=value ...] [--plan]

Writes answers.parquet (every answer, to be read), table.md, table.json and pictures to RUN_DIR. Run
it again and it continues where it stopped.
"""

import sys

from avr.run.command import job

if __name__ == "__main__":
    sys.exit(job(__doc__, "avr.recipes.table"))
