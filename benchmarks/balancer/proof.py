"""Writes the tables of docs/design/balancer-proof.md from the stored figures of the balancer's benchmarks."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from datetime import date

from benchmarks.balancer.claims import claims_table, rules_table
from benchmarks.places import CHECKOUT, RESULTS
from benchmarks.table import Figure

PAGE = CHECKOUT / "docs" / "design" / "balancer-proof.md"
BLOCK = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- /figures -->)", re.DOTALL)
RULES = RESULTS / "balancer_simulation_rules.csv"
"""Raw figures of the published rules, by ``balancer/simulation``."""


def write_page(figures: Sequence[Figure]) -> None:
    """Replace the tables between the markers of the page. Raises SystemExit where the page has no markers."""
    tables = [claims_table(figures)]
    if RULES.exists():
        with RULES.open(newline="") as file:
            tables.append(rules_table(csv.DictReader(file)))
    text = "\n\n".join([*tables, f"Measured {date.today()} on {os.cpu_count()} cores."]) + "\n"
    page, blocks = BLOCK.subn(lambda block: block[1] + text + block[2], PAGE.read_text())
    if blocks != 1:
        raise SystemExit(f"{PAGE} needs exactly one block of figures, has {blocks}")
    PAGE.write_text(page)
