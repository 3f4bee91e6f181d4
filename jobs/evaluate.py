"""Answer a prompt set with a model of ours, and have a judge compare it with a baseline.

    python jobs/evaluate.py conf/miniature/evaluate.yaml [key=value ...] [--plan]
    python jobs/evaluate.py conf/llama3_8b/evaluate_alpaca.yaml policy.model=runs/llama3_8b/dpo \\
        prompts.path=alpaca_eval.json baseline.path=gpt4_1106_preview.json run_dir=runs/dpo-r2

Writes the answers in AlpacaEval's or Arena-Hard's format and report.json to RUN_DIR. There is no
win rate unless every prompt was judged. Run it again and it continues where it stopped.
"""

import sys

from avr.run.command import job

if __name__ == "__main__":
    sys.exit(job(__doc__, "avr.recipes.evaluate"))
