"""Compare final answers by math-verify: a pair of texts a line in, true or false a line out.

Its limits of time need the main thread of a process, which a worker's tasks do not run in.
"""

import json
import logging
import sys


def main() -> None:
    """Answer each line until the input ends."""
    from math_verify import parse, verify

    # It logs each expression that it cannot read, with a trace.
    logging.disable(logging.ERROR)
    for line in sys.stdin:
        expected, found = json.loads(line)
        print(json.dumps(bool(verify(parse(expected), parse(found)))), flush=True)


if __name__ == "__main__":
    main()
