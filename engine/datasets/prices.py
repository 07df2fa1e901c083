"""Reads daily or monthly closing prices from CSV; refuses doubtful files with file and line.

Standard library only. Nothing is repaired, dropped or filled in: a person decides about gaps.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ..errors import DataRefused
from .csvfile import read_text

PRICE_COLUMNS = ("Date", "Close")
PRICES_HINT = "expected CSV with the columns Date (YYYY-MM-DD) and Close"


@dataclass(frozen=True, slots=True)
class Prices:
    """A price series in time order."""

    dates: tuple[str, ...]
    closes: tuple[float, ...]
    sha256: str
    """Of the bytes that were parsed."""


def read_prices(path: Path) -> Prices:
    """Read a price file. Raises DataRefused with ``FILE:LINE: reason``."""
    text, sha256 = read_text(path, PRICES_HINT)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    dates: list[str] = []
    closes: list[float] = []
    try:
        header = [name.strip() for name in next(reader)]
        for name in PRICE_COLUMNS:
            if header.count(name) != 1:
                problem = "no" if name not in header else "more than one"
                raise ValueError(f"{problem} column {name}")
        at_date, at_close = (header.index(name) for name in PRICE_COLUMNS)
        for cells in reader:
            if not cells:
                continue
            if len(cells) > len(header):
                raise ValueError(f"{len(cells)} cells, but the header names {len(header)} columns")
            cells += [""] * (len(header) - len(cells))
            day = _parse_date(cells[at_date].strip())
            if dates and day == dates[-1]:
                raise ValueError(f"date {day} stands there twice")
            if dates and day < dates[-1]:
                raise ValueError(f"date {day} comes after {dates[-1]}: the rows are not in time order")
            dates.append(day)
            closes.append(_parse_price(cells[at_close].strip()))
    except (ValueError, csv.Error) as error:
        raise DataRefused(f"{path}:{reader.line_num or 1}: {error}", hint=PRICES_HINT) from None
    return Prices(tuple(dates), tuple(closes), sha256)


def _parse_date(text: str) -> str:
    if not text:
        raise ValueError("Date is empty")
    try:
        if len(text) != 10:
            raise ValueError
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"Date is not YYYY-MM-DD: {text[:40]!r}") from None


def _parse_price(text: str) -> float:
    if not text:
        raise ValueError("Close is empty")
    try:
        if "_" in text:  # Python parses 1_000 as a number; a price is never written like that
            raise ValueError
        price = float(text)
    except ValueError:
        raise ValueError(f"Close is not a number: {text[:40]!r}") from None
    if not math.isfinite(price) or price <= 0:
        raise ValueError(f"Close is not a price above zero: {text[:40]!r}")
    return price
