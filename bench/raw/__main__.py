"""`python -m bench.raw NAME`: one measurement in a process of its own; the rate is its last line."""

import sys

from bench.raw import measures

if __name__ == "__main__":
    sys.stdout.write(f"\n{measures()[sys.argv[1]]()}\n")
