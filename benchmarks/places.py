"""Paths that the benchmarks share."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "benchmarks" / "results"
"""Raw figures as CSV files, and the lines that each benchmark printed last."""
