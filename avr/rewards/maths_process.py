"""Compare final answers by math-verify: a pair of texts a line in, true or false a line out.

Its limits of time need the main thread of a process, which a worker's tasks do not run in.
"""

import json
import logging
import sys

from avr.rewards.latex import for_math_verify


def main() -> None:
    """Answer each line until the input ends."""
    from math_verify import LatexExtractionConfig, parse, verify

    def read(answer: str) -> list[object]:
        text, latex_alone = for_math_verify(answer)
        found: list[object]
        found = parse(text, [LatexExtractionConfig()]) if latex_alone else parse(text)
        return found

    # It logs each expression that it cannot read, with a trace.
    logging.disable(logging.ERROR)
    for line in sys.stdin:
        expected, found = json.loads(line)
        print(json.dumps(bool(verify(read(expected), read(found)))), flush=True)


if __name__ == "__main__":
    main()
