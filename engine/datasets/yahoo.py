"""Five years of daily S&P 500 prices from Yahoo Finance, fetched once and then read from the cache.

The cache is a price file like any other and is read back through the same refusals, so both ways give the same bytes. Delete it to
fetch newer prices. Offline is an error, never an empty or made-up series.
"""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path

from ..errors import DataRefused
from .storage import write_atomically

TICKER = "^GSPC"
YEARS = 5
HINT = "use --csv FILE with the columns Date,Close"


def cached_or_fetched(data_dir: Path) -> Path:
    """The price file, named for the ticker and its first and last day; the newest where there are several."""
    folder = data_dir / "sp500"
    known = sorted(folder.glob(f"{TICKER}_*.csv"), key=lambda path: path.stem.split("_")[-1])
    return known[-1] if known else _fetch(folder)


def _fetch(folder: Path) -> Path:
    try:
        import yfinance
        from yfinance.exceptions import YFException
    except ImportError:
        raise DataRefused("yfinance is not installed, so there are no S&P 500 prices", hint=HINT) from None
    today = date.today()
    yfinance.config.debug.hide_exceptions = False  # else a failed request is an empty frame and a log line
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # our one line says it, its own would stand beside it
    yfinance.set_tz_cache_location(str(folder / "yfinance"))  # its own place is shared by all who share a home
    try:
        frame = yfinance.Ticker(TICKER).history(start=today.replace(year=today.year - YEARS, day=1), end=today, auto_adjust=True)
    except (OSError, ValueError, YFException) as error:
        reason = " ".join(str(error).split()).split(". See ")[0][:160] or type(error).__name__
        raise DataRefused(f"Yahoo Finance could not be reached: {reason}", hint=HINT) from None
    # `end` is exclusive, so today's provisional row is not asked for; the index carries the exchange's time zone
    rows = [(stamp.date(), float(close)) for stamp, close in zip(frame.index, frame.get("Close", ()), strict=False)]
    rows = [(day, close) for day, close in rows if day < today and close == close]
    if not rows:
        raise DataRefused(f"Yahoo Finance sent no prices for {TICKER}", hint=HINT)
    path = folder / f"{TICKER}_{rows[0][0]}_{rows[-1][0]}.csv"
    write_atomically(path, ("Date,Close\n" + "".join(f"{day},{close!r}\n" for day, close in rows)).encode())
    return path
