"""Daily or monthly closing prices read from CSV, refused with file and line when anything about them is doubtful.

Needs the standard library only. Nothing is repaired, dropped or filled in: a hole in the data is for a person to see.
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

COLUMNS = ("Date", "Close")
HINT = "expected CSV with the columns Date (YYYY-MM-DD) and Close"


@dataclass(frozen=True, slots=True)
class Prices:
    """A series in time order."""

    dates: tuple[str, ...]
    closes: tuple[float, ...]
    sha256: str
    """Of the file's bytes, the very ones that were parsed."""


def read_prices(path: Path) -> Prices:
    """Read a whole price file. Raises DataRefused with ``FILE:LINE: what is wrong``."""
    text, sha256 = read_text(path, HINT)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    dates: list[str] = []
    closes: list[float] = []
    try:
        header = [name.strip() for name in next(reader)]
        for name in COLUMNS:
            if header.count(name) != 1:
                problem = "no" if name not in header else "more than one"
                raise ValueError(f"{problem} column {name}")
        at_date, at_close = (header.index(name) for name in COLUMNS)
        for cells in reader:
            if not cells:
                continue
            if len(cells) > len(header):
                raise ValueError(f"{len(cells)} cells, but the header names {len(header)} columns")
            cells += [""] * (len(header) - len(cells))
            day = _date(cells[at_date].strip())
            if dates and day == dates[-1]:
                raise ValueError(f"date {day} stands there twice")
            if dates and day < dates[-1]:
                raise ValueError(f"date {day} comes after {dates[-1]}: the rows are not in time order")
            dates.append(day)
            closes.append(_price(cells[at_close].strip()))
    except (ValueError, csv.Error) as error:
        raise DataRefused(f"{path}:{reader.line_num or 1}: {error}", hint=HINT) from None
    return Prices(tuple(dates), tuple(closes), sha256)


def _date(text: str) -> str:
    if not text:
        raise ValueError("Date is empty")
    try:
        if len(text) != 10:
            raise ValueError
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"Date is not YYYY-MM-DD: {text[:40]!r}") from None


def _price(text: str) -> float:
    if not text:
        raise ValueError("Close is empty")
    try:
        if "_" in text:  # Python reads 1_000 as a number; nobody's prices are written so
            raise ValueError
        price = float(text)
    except ValueError:
        raise ValueError(f"Close is not a number: {text[:40]!r}") from None
    if not math.isfinite(price) or price <= 0:
        raise ValueError(f"Close is not a price above zero: {text[:40]!r}")
    return price
