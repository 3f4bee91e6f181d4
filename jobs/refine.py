"""Let a Stage I model criticise and refine the answers of any other model.

    python jobs/refine.py conf/miniature/refine.yaml [key=value ...] [--plan]
    python jobs/refine.py conf/miniature/refine.yaml answers.path=outputs.json oracle=null \\
        run_dir=runs/mine

Takes AlpacaEval's JSON, JSONL or Parquet with a prompt and an answer a row; writes the same rows,
refined, to RUN_DIR/answers.json(l). Run it again and it continues where it stopped.
"""

import sys

from avr.run.command import job

if __name__ == "__main__":
    sys.exit(job(__doc__, "avr.recipes.refine"))
