"""Searches for bytes that the reader of hot routes and uvicorn's parsers, httptools and h11, take in different ways.

    python fuzz/http1.py                 # for a minute
    python fuzz/http1.py --seconds 600
    python fuzz/http1.py --seed 7        # the inputs of another run: each run prints its seed

The interpreter is the one that the wheel and ``requirements-dev.txt`` are installed in. It ends with 1 at the first
difference, and prints the bytes.
"""

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.framing import Counts, Difference, compare, hostile


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to search (60)")
    parser.add_argument(
        "--seed", type=int, help="a number that decides on the inputs; by default another one each time"
    )
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}")
    rng = random.Random(seed)
    counts = Counts()
    until = time.monotonic() + options.seconds
    while time.monotonic() < until:
        for _ in range(1000):
            try:
                compare(rng, hostile(rng), counts)
            except Difference as difference:
                print(f"input {counts.cases}: {difference}")
                return 1
    print(counts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
