"""Daily prices of a ticker from Yahoo Finance, five years of the S&P 500 by default, downloaded once and then read from a cache.

The cache is an ordinary price file, checked before it is written and read with the same checks. Delete it to download newer prices.
Being offline is an error, never an empty or invented series.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import re
from datetime import date
from pathlib import Path
from typing import Any

from ...errors import DataRefused, UsageError
from ..storage import write_atomically
from .prices import parse_prices

TICKER = "^GSPC"
YEARS = 5
MAX_YEARS = 100
_TICKER = re.compile(r"[A-Za-z0-9^.=-]{1,24}")
YAHOO_HINT = "use --csv FILE with the columns Date,Close; to try without prices: --dataset synthetic-series"


def cached_or_downloaded(data_dir: Path, ticker: str = TICKER, years: int = YEARS) -> Path:
    """The newest price file, named by ticker, first and last day; downloaded if there is none. Raises DataRefused."""
    if not _TICKER.fullmatch(ticker):  # it becomes the name of a file
        raise UsageError(f"{ticker[:40]!r} is no ticker", hint="such as ^GSPC, AAPL, BRK-B or EURUSD=X")
    if not 1 <= years <= MAX_YEARS:
        raise UsageError(f"{years} years of prices", hint=f"from 1 to {MAX_YEARS}")
    folder = data_dir / "sp500"
    known = [path for path in folder.glob("*.csv") if _years_of(path, ticker) == years]
    return max(known, key=lambda path: path.stem.split("_")[2]) if known else _download(folder, ticker, years)


def _years_of(path: Path, ticker: str) -> int | None:
    """Years that were asked for when a cached file was written, from its name ``^GSPC_FIRST_LAST_10y``; None: of another ticker."""
    parts = path.stem.split("_")
    if parts[0] != ticker or len(parts) not in (3, 4):
        return None
    return YEARS if len(parts) == 3 else int(re.sub(r"\D", "", parts[3]) or 0)


def _download(folder: Path, ticker: str, years: int) -> Path:
    try:
        import yfinance
    except ImportError:
        reason = f"yfinance is not installed, so there are no prices of {ticker}"
        raise DataRefused(reason, hint=f"pip install 'paceline[data]', or {YAHOO_HINT}") from None
    today = date.today()
    try:
        rows = _closes(_history(yfinance, ticker, years, folder), today)
    except Exception as error:  # yfinance lets through what its parsers raise: TypeError, KeyError and others
        reason = " ".join(str(error).split()).split(". See ")[0][:160]
        kind = "" if isinstance(error, OSError) and reason else f"{type(error).__name__}: " if reason else type(error).__name__
        raise DataRefused(f"Yahoo Finance could not be reached: {kind}{reason}", hint=YAHOO_HINT) from None
    if not rows:
        raise DataRefused(f"Yahoo Finance sent no prices for {ticker}: is there such a ticker?", hint=YAHOO_HINT)
    text = "Date,Close\n" + "".join(f"{day},{close!r}\n" for day, close in rows)
    content = text.encode()
    parse_prices(text, hashlib.sha256(content).hexdigest(), f"Yahoo Finance's answer for {ticker}")  # a bad answer is not kept
    end = "" if years == YEARS else f"_{years}y"
    path = folder / f"{ticker}_{rows[0][0]}_{rows[-1][0]}{end}.csv"
    write_atomically(path, content)
    return path


def _history(yfinance: Any, ticker: str, years: int, folder: Path) -> Any:
    """yfinance's frame. Raises whatever yfinance raises."""
    with contextlib.suppress(AttributeError):  # versions before 1.0 have no such setting
        yfinance.config.debug.hide_exceptions = False  # else a failed request gives an empty frame and a log line
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # our error says it; its log line would be a second one
    yfinance.set_tz_cache_location(str(folder / "yfinance"))  # its default is shared by everybody who shares a home
    today = date.today()
    start = today.replace(year=today.year - years, day=1)
    return yfinance.Ticker(ticker).history(start=start, end=today, auto_adjust=True)


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
