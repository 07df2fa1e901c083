"""Which columns of a price file hold dates and prices, by its header; knows the headers of yfinance and FRED. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..source import Columns

_DATE_NAMES = ("date", "observation_date")
_PRICE_NAME = "close"
_FRED_DATES = ("DATE", "observation_date")
_FRED_SERIES = re.compile(r"[A-Z][A-Z0-9_]*")
_RELATED_NAMES = re.compile(r"open|high|low|close|adj.?close|adjusted.?close|last|price|settle.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PriceColumns:
    """The header of a price file."""

    names: tuple[str, ...]
    date: int
    """Index of the column of dates."""
    price: int
    """Index of the column of prices."""
    has_gaps: bool = False
    """Whether days without a price are part of the format, as a dot or an empty cell: FRED's."""

    @property
    def price_name(self) -> str:
        """Name of the column of prices, for messages."""
        return self.names[self.price]

    @property
    def date_name(self) -> str:
        """Name of the column of dates, for messages."""
        return self.names[self.date]

    @property
    def after_price(self) -> str | None:
        """Name of the column behind the prices where a cut price would go unseen: the last one, without other prices beside it.

        Anywhere else a comma inside a price gives the row a cell too many.
        """
        others = [name for index, name in enumerate(self.names) if index not in (self.date, self.price)]
        if self.price != len(self.names) - 2 or any(is_related(name) for name in others[:-1]):
            return None
        return self.names[-1]


def is_related(name: str) -> bool:
    """Whether a column holds prices near the close, by its name."""
    return _RELATED_NAMES.fullmatch(name.strip()) is not None


def delimiter_of(text: str) -> str:
    """The sign between cells, by the first line with content."""
    first = text.lstrip().partition("\n")[0]
    return next((sign for sign in (";", "\t") if sign in first and "," not in first), ",")


def read_header(rows: Iterator[list[str]], columns: Columns) -> PriceColumns:
    """Read the header, of three lines where yfinance wrote it. Raises ValueError with what is missing."""
    names = next(rows, [])
    if names[:1] in (["Price"], ["Ticker"]):
        names = _merge_yfinance_header(names, next(rows, []), next(rows, []))
    is_fred = len(names) == 2 and names[0] in _FRED_DATES and _FRED_SERIES.fullmatch(names[1]) is not None and names[1] != "CLOSE"
    if is_fred and columns == Columns():
        return PriceColumns(tuple(names), 0, 1, has_gaps=True)
    date = _only_index(names, (columns.date,) if columns.date is not None else _DATE_NAMES, "Date", "--date-column")
    price = _only_index(names, (columns.price,) if columns.price is not None else (_PRICE_NAME,), "Close", "--column")
    if date == price:
        raise ValueError(f"dates and prices cannot be the same column {names[date]}")
    return PriceColumns(tuple(names), date, price, is_fred)


def _merge_yfinance_header(first: list[str], second: list[str], third: list[str]) -> list[str]:
    """One header of yfinance's three lines: kinds of prices, tickers, and the name of the index."""
    if {first[0], *second[:1]} != {"Price", "Ticker"} or len(first) != len(second) or not third:
        raise ValueError(f"a header that begins with {first[0]} needs yfinance's three lines: Price, Ticker, Date")
    kinds, tickers = (first, second) if first[0] == "Price" else (second, first)
    has_one_ticker = len(set(tickers[1:])) == 1
    pairs = zip(kinds[1:], tickers[1:], strict=True)
    return [third[0], *(kind if has_one_ticker else f"{kind} {ticker}" for kind, ticker in pairs)]


def _only_index(names: list[str], wanted: tuple[str, ...], usual: str, option: str) -> int:
    """Index of the one column of these names; of several that differ in case only, the one written exactly so."""
    folded = [word.casefold() for word in wanted]
    found = [index for index, name in enumerate(names) if name.casefold() in folded]
    if len(found) > 1:
        found = [index for index in found if names[index] in wanted and wanted != (_PRICE_NAME,)] or found
    if len(found) == 1:
        return found[0]
    name = usual if usual.casefold() in folded else wanted[0]
    listed = ", ".join(names)[:120]
    raise ValueError(f"{'more than one' if found else 'no'} column {name} among {listed}: name one with {option}")
