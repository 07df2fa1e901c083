"""Writes the newest finished bench of logs/runs into the README: ``python -m benchmarks.readme_table [RESULT.json]``."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from pathlib import Path

from paceline.engine.reports.table import bench_markdown

from benchmarks.places import CHECKOUT

BLOCK = re.compile(r"(<!-- result: .*? -->\n).*?(<!-- /result -->)", re.DOTALL)


def main() -> int:
    """Replace the result block of the README. Returns 2 where there is no finished bench or no block."""
    stored = sorted(CHECKOUT.glob("logs/runs/*/result.json"), reverse=True)
    paths = [Path(argument) for argument in sys.argv[1:2]] or stored
    documents = (json.loads(path.read_text()) for path in paths)
    result = next((document for document in documents if "cases" in document and document["state"] == "done"), None)
    if result is None:
        print("no finished bench found: run make bench first", file=sys.stderr)
        return 2
    day = datetime.strptime(result["run_id"][:8], "%Y%m%d").date()
    readme = CHECKOUT / "README.md"
    text, blocks = BLOCK.subn(
        lambda block: f"{block[1]}{bench_markdown(result)}\n\nMeasured {day}.\n{block[2]}", readme.read_text()
    )
    if blocks != 1:
        print(f"README.md needs exactly one result block, has {blocks}", file=sys.stderr)
        return 2
    readme.write_text(text)
    print(f"README.md shows run {result['run_id']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
