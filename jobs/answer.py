"""Answer prompts with a Stage II model: write final answers and thinking apart, count failures.

    python jobs/answer.py conf/miniature/answer.yaml [key=value ...] [--plan]
    python jobs/answer.py conf/miniature/answer.yaml prompts.path=mine.jsonl run_dir=runs/mine

Writes RUN_DIR/answers.jsonl. Run it again and it continues where it stopped. From Python:
`avr.run.runner.run(config, avr.recipes.answer.recipe(config))`.
"""

import sys

from avr.run.command import job

if __name__ == "__main__":
    sys.exit(job(__doc__, "avr.recipes.answer"))
