"""Write the newest benchmark of logs/runs into the README, so that its table is always a measured one.

usage: .venv/bin/python benchmarks/readme_table.py [RESULT.json]
"""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from pathlib import Path

from paceline.engine.reports.table import bench_markdown

HOME = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- result: .*? -->\n).*?(<!-- /result -->)", re.DOTALL)


def main() -> int:
    """Replace the block of the README; refuses a result that is not whole."""
    known = sorted(HOME.glob("logs/runs/*/result.json"), reverse=True)
    paths = [Path(argument) for argument in sys.argv[1:2]] or known
    documents = (json.loads(path.read_text()) for path in paths)
    result = next((document for document in documents if "cases" in document and document["state"] == "done"), None)
    if result is None:
        print("no finished benchmark found: run make bench first", file=sys.stderr)
        return 2
    day = datetime.strptime(result["run_id"][:8], "%Y%m%d").date()
    readme = HOME / "README.md"
    text, found = BLOCK.subn(lambda block: f"{block[1]}{bench_markdown(result)}\n\nMeasured {day}.\n{block[2]}", readme.read_text())
    if found != 1:
        print("README.md has no result block", file=sys.stderr)
        return 2
    readme.write_text(text)
    print(f"README.md shows run {result['run_id']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
