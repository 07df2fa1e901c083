"""Measures the claims of the README and of docs/design: ``python -m benchmarks [GROUP | GROUP/NAME ...]``."""

from __future__ import annotations

import sys

from benchmarks.runner import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
