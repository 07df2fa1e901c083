"""Five years of daily S&P 500 prices from Yahoo Finance, downloaded once and then read from a cache.

The cache is an ordinary price file, checked before it is written and read with the same checks. Delete it to download newer prices.
Being offline is an error, never an empty or invented series.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
from datetime import date
from pathlib import Path
from typing import Any

from ..errors import DataRefused
from .prices import parse_prices
from .storage import write_atomically

TICKER = "^GSPC"
YEARS = 5
YAHOO_HINT = "use --csv FILE with the columns Date,Close"


def cached_or_downloaded(data_dir: Path) -> Path:
    """The newest price file, named by ticker, first and last day; downloaded if there is none. Raises DataRefused."""
    folder = data_dir / "sp500"
    known = sorted(folder.glob(f"{TICKER}_*.csv"), key=lambda path: path.stem.split("_")[-1])
    return known[-1] if known else _download(folder)


def _download(folder: Path) -> Path:
    try:
        import yfinance
    except ImportError:
        raise DataRefused("yfinance is not installed, so there are no S&P 500 prices", hint=YAHOO_HINT) from None
    today = date.today()
    try:
        rows = _closes(_history(yfinance, today, folder), today)
    except Exception as error:  # yfinance lets through what its parsers raise: TypeError, KeyError and others
        reason = " ".join(str(error).split()).split(". See ")[0][:160]
        kind = "" if isinstance(error, OSError) and reason else f"{type(error).__name__}: " if reason else type(error).__name__
        raise DataRefused(f"Yahoo Finance could not be reached: {kind}{reason}", hint=YAHOO_HINT) from None
    if not rows:
        raise DataRefused(f"Yahoo Finance sent no prices for {TICKER}", hint=YAHOO_HINT)
    text = "Date,Close\n" + "".join(f"{day},{close!r}\n" for day, close in rows)
    content = text.encode()
    parse_prices(text, hashlib.sha256(content).hexdigest(), f"Yahoo Finance's answer for {TICKER}")  # a bad answer is not kept
    path = folder / f"{TICKER}_{rows[0][0]}_{rows[-1][0]}.csv"
    write_atomically(path, content)
    return path


def _history(yfinance: Any, today: date, folder: Path) -> Any:
    """yfinance's frame. Raises whatever yfinance raises."""
    with contextlib.suppress(AttributeError):  # versions before 1.0 have no such setting
        yfinance.config.debug.hide_exceptions = False  # else a failed request gives an empty frame and a log line
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # our error says it; its log line would be a second one
    yfinance.set_tz_cache_location(str(folder / "yfinance"))  # its default is shared by everybody who shares a home
    start = today.replace(year=today.year - YEARS, day=1)
    return yfinance.Ticker(TICKER).history(start=start, end=today, auto_adjust=True)


def _closes(frame: Any, today: date) -> list[tuple[date, float]]:
    """Days and closes of a frame in time order, without empty days and today's provisional price. None has no rows.

    The index has the exchange's time zone. With two header lines a name gives a frame of one column a ticker.
    """
    if frame is None:
        return []
    column = frame.get("Close", ())
    if getattr(column, "ndim", 1) == 2:
        column = column.iloc[:, 0]
    rows = ((stamp.date(), float(close)) for stamp, close in zip(frame.index, column, strict=False))
    return sorted((day, close) for day, close in rows if day < today and not math.isnan(close))
