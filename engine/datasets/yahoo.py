"""Five years of daily S&P 500 prices from Yahoo Finance, downloaded once and then read from a cache.

The cache is an ordinary price file and is read with the same checks, so both ways give the same bytes. Delete it to download newer
prices. Being offline is an error, never an empty or invented series.
"""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path

from ..errors import DataRefused
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
        from yfinance.exceptions import YFException
    except ImportError:
        raise DataRefused("yfinance is not installed, so there are no S&P 500 prices", hint=YAHOO_HINT) from None
    today = date.today()
    yfinance.config.debug.hide_exceptions = False  # else a failed request gives an empty frame and a log line
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # our error says it; its log line would be a second one
    yfinance.set_tz_cache_location(str(folder / "yfinance"))  # its default is shared by everybody who shares a home
    try:
        frame = yfinance.Ticker(TICKER).history(start=today.replace(year=today.year - YEARS, day=1), end=today, auto_adjust=True)
    except (OSError, ValueError, YFException) as error:
        reason = " ".join(str(error).split()).split(". See ")[0][:160] or type(error).__name__
        raise DataRefused(f"Yahoo Finance could not be reached: {reason}", hint=YAHOO_HINT) from None
    # `end` is exclusive, so today's provisional row is left out; the index has the exchange's time zone
    rows = [(stamp.date(), float(close)) for stamp, close in zip(frame.index, frame.get("Close", ()), strict=False)]
    rows = [(day, close) for day, close in rows if day < today and close == close]
    if not rows:
        raise DataRefused(f"Yahoo Finance sent no prices for {TICKER}", hint=YAHOO_HINT)
    path = folder / f"{TICKER}_{rows[0][0]}_{rows[-1][0]}.csv"
    write_atomically(path, ("Date,Close\n" + "".join(f"{day},{close!r}\n" for day, close in rows)).encode())
    return path
