"""Reads daily or monthly closing prices from CSV; refuses doubtful files with file and line, warns of strange ones.

Standard library only. Nothing is repaired or filled in: a person decides about gaps. Days without a price are left out only where
the format writes them, as FRED's does. Taken as they are: semicolons or tabs between cells, with a decimal comma; other columns;
the newest row first; a time behind the date.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ...errors import DataRefused
from ..csvfile import Check, Rows, never_interrupted, read_text
from ..source import USUAL_COLUMNS, Columns
from .cut_prices import first_cut_row
from .price_columns import PriceColumns, delimiter_of, read_header
from .price_warnings import price_warnings

PRICES_HINT = "expected CSV with the columns Date (YYYY-MM-DD) and Close; --column and --date-column name others"
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|UTC|[+-]\d{2}:?\d{2}))?)?")
_DECIMAL_COMMA = re.compile(r"\d+,\d+")


@dataclass(frozen=True, slots=True)
class Prices:
    """A price series in time order."""

    dates: tuple[str, ...]
    closes: tuple[float, ...]
    sha256: str
    """Of the bytes that were parsed."""
    warnings: tuple[str, ...] = ()
    """What is strange about the series, with file and line."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row with a price, as text."""

    line: int
    day: str
    price: str
    behind: str
    """The last cell, where the price might have been cut; else empty."""


class _Refused(ValueError):
    """A reason with the line that it is about."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def read_prices(path: Path, columns: Columns = USUAL_COLUMNS, check: Check = never_interrupted) -> Prices:
    """Read a price file. Raises DataRefused with ``FILE:LINE: reason``."""
    text, sha256 = read_text(path, PRICES_HINT, check)
    return parse_prices(text, sha256, str(path), columns, check)


def parse_prices(text: str, sha256: str, name: str, columns: Columns = USUAL_COLUMNS, check: Check = never_interrupted) -> Prices:
    """Parse the text of a price file called ``name``. Raises DataRefused with ``NAME:LINE: reason``."""
    delimiter = delimiter_of(text)
    rows = Rows(text, delimiter, check)
    try:
        header = read_header(iter(rows), columns)
        kept, gaps = _read_rows(rows, header)
        if delimiter == "," and header.after_price is not None:
            _refuse_cut_prices(kept, header)
        closes = _parse_prices([row.price for row in kept], [row.line for row in kept], header.price_name, delimiter)
    except _Refused as error:
        raise DataRefused(f"{name}:{error.line}: {error}", hint=PRICES_HINT) from None
    except (ValueError, csv.Error) as error:
        raise DataRefused(f"{name}:{rows.line}: {error}", hint=PRICES_HINT) from None
    if len(kept) > 1 and kept[0].day > kept[-1].day:
        kept, closes = kept[::-1], closes[::-1]
    warnings = [f"{name}:{gaps[0]}: {len(gaps)} days without a price are left out"] if gaps else []
    days = tuple(row.day for row in kept)
    warnings += [f"{name}:{line}: {reason}" for line, reason in price_warnings(days, closes, [row.line for row in kept])]
    return Prices(days, tuple(closes), sha256, tuple(warnings))


def _read_rows(rows: Rows, header: PriceColumns) -> tuple[list[_Row], list[int]]:
    """The rows with a price in the order of the file, and the lines of those without. Raises ValueError about the newest row."""
    kept: list[_Row] = []
    gaps: list[int] = []
    previous = ""
    is_descending: bool | None = None
    for cells in rows:
        if len(cells) > len(header.names):
            raise ValueError(f"{len(cells)} cells, but the header names {len(header.names)} columns")
        cells += [""] * (len(header.names) - len(cells))
        day = _parse_date(cells[header.date], header.date_name)
        if day == previous:
            raise ValueError(f"date {day} stands there twice")
        if previous:
            is_descending = day < previous if is_descending is None else is_descending
            if (day < previous) is not is_descending:
                order = "newest first, as they begin" if is_descending else "in time order"
                raise ValueError(f"date {day} comes after {previous}: the rows are not {order}")
        previous = day
        price = cells[header.price]
        if header.has_gaps and price in (".", ""):
            gaps.append(rows.line)
            continue
        if not price:
            raise ValueError(f"{header.price_name} is empty")
        kept.append(_Row(rows.line, day, price, cells[-1] if header.after_price is not None else ""))
    return kept, gaps


def _refuse_cut_prices(rows: Sequence[_Row], header: PriceColumns) -> None:
    behind_name = header.names[-1]
    if (found := first_cut_row([row.price for row in rows], [row.behind for row in rows], behind_name)) is not None:
        row = rows[found]
        pair = f"{header.price_name} {row.price} and {behind_name} {row.behind}"
        reason = f"{pair} look like one price, {row.price},{row.behind}, that a comma has cut in two"
        raise _Refused(row.line, f"{reason}: write a decimal point and no thousands separator")


def _parse_date(text: str, name: str) -> str:
    """The day as YYYY-MM-DD; a time behind it is left out, so the day is that of the place the file was written for."""
    if not text:
        raise ValueError(f"{name} is empty")
    found = _DAY.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        return date.fromisoformat(found[1]).isoformat()
    except ValueError:
        raise ValueError(f"{name} is not YYYY-MM-DD: {text[:40]!r}") from None


def _parse_prices(texts: Sequence[str], lines: Sequence[int], name: str, delimiter: str) -> list[float]:
    """The prices; with a decimal comma where no comma separates cells. Raises _Refused with the line."""
    with_comma = [row for row, text in enumerate(texts) if _DECIMAL_COMMA.fullmatch(text)] if delimiter != "," else []
    if with_comma:
        first = with_comma[0]
        if (with_point := next((row for row, text in enumerate(texts) if "." in text), None)) is not None:
            reason = f"{name} has a point in {texts[with_point][:40]!r} and a comma in {texts[first]!r} of line {lines[first]}"
            raise _Refused(lines[with_point], reason)
        if all(len(texts[row].partition(",")[2]) == 3 for row in with_comma):
            whole, part = texts[first].split(",")
            raise _Refused(
                lines[first], f"{name} {texts[first]!r} is {whole}{part} or {whole}.{part}: write it with a decimal point"
            )
        texts = [text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text for text in texts]
    return [_parse_price(text, line, name) for text, line in zip(texts, lines, strict=True)]


def _parse_price(text: str, line: int, name: str) -> float:
    try:
        if "_" in text:  # Python parses 1_000 as a number; a price is never written like that
            raise ValueError
        price = float(text)
    except ValueError:
        comma = ", which has a comma: write a decimal point and no thousands separator" if "," in text else ""
        raise _Refused(line, f"{name} is not a number: {text[:40]!r}{comma}") from None
    if not math.isfinite(price) or price <= 0:
        raise _Refused(line, f"{name} is not a price above zero: {text[:40]!r}")
    return price
