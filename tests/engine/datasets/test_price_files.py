"""Price files as people have them: other formats are taken as they are, cut prices refused, strange series told with their line."""

from __future__ import annotations

import os
import random
import threading
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from paceline.engine.datasets import Columns, prepare
from paceline.engine.datasets.prices.cut_prices import first_cut_row
from paceline.engine.datasets.prices.price_warnings import price_warnings
from paceline.engine.datasets.prices.prices import parse_prices
from paceline.engine.errors import DataRefused, Interrupted, UsageError

from tests.support.places import SHARED_DATA

FAULTS = SHARED_DATA / "faults"
DAYS = [date(2020, 1, 1) + timedelta(days=day) for day in range(100)]
CLOSES = [1200 + 3 * (day % 7) + day / 4 + 0.27 for day in range(100)]


def closes_of(text: str, columns: Columns = Columns()) -> list[float]:  # noqa: B008  # a frozen value
    return list(parse_prices(text, "", "p.csv", columns).closes)


def test_every_common_format_of_the_same_prices_gives_the_same_prices() -> None:
    rows = list(zip(DAYS, CLOSES, strict=True))
    formats = {
        "plain": "Date,Close\n" + "".join(f"{day},{close}\n" for day, close in rows),
        "yfinance download": "Price,Close,High,Volume\nTicker,^GSPC,^GSPC,^GSPC\nDate,,,\n"
        + "".join(f"{day},{close},{close + 1},12\n" for day, close in rows),
        "yfinance by ticker": "Ticker,^GSPC,^GSPC\nPrice,Open,Close\nDate,,\n"
        + "".join(f"{day},{close - 1},{close}\n" for day, close in rows),
        "yfinance history": "Date,Open,Close,Volume,Dividends\n"
        + "".join(f"{day} 00:00:00-05:00,1,{close},1,0.0\n" for day, close in rows),
        "lower case": "date,volume,close\n" + "".join(f"{day},7,{close}\n" for day, close in rows),
        "semicolons": "Date;Close\n" + "".join(f"{day};{str(close).replace('.', ',')}\n" for day, close in rows),
        "semicolons and points": "Date;Close\n" + "".join(f"{day};{close}\n" for day, close in rows),
        "tabs": "Date\tClose\n" + "".join(f"{day}\t{close}\n" for day, close in rows),
        "newest first": "Date,Close\n" + "".join(f"{day},{close}\n" for day, close in reversed(rows)),
        "FRED": "observation_date,SP500\n" + "".join(f"{day},{close}\n" for day, close in rows),
        "old FRED": "DATE,SP500\n" + "".join(f"{day},{close}\n" for day, close in rows),
    }
    for name, text in formats.items():
        assert closes_of(text) == CLOSES, name


def test_days_that_fred_marks_as_closed_are_left_out_and_counted() -> None:
    text = "observation_date,SP500\n" + "".join(
        f"{day},{'.' if row == 4 else '' if row == 9 else close}\n"
        for row, (day, close) in enumerate(zip(DAYS, CLOSES, strict=True))
    )
    prices = parse_prices(text, "", "fred.csv")
    assert len(prices.closes) == 98
    assert prices.warnings[0] == "fred.csv:6: 2 days without a price are left out"
    with pytest.raises(DataRefused, match=":11: Close is empty"):
        parse_prices(text.replace("observation_date,SP500", "Date,Close"), "", "p.csv")


def test_other_columns_can_be_named_and_a_wrong_name_lists_those_there_are() -> None:
    text = "Day,Last,Close\n" + "".join(f"{day},{close},1\n" for day, close in zip(DAYS, CLOSES, strict=True))
    assert closes_of(text, Columns("Last", "Day")) == CLOSES
    with pytest.raises(DataRefused, match="no column Date among Day, Last, Close: name one with --date-column"):
        closes_of(text)
    with pytest.raises(DataRefused, match="no column Lst among Day, Last, Close: name one with --column"):
        closes_of(text, Columns("Lst", "Day"))
    with pytest.raises(DataRefused, match="cannot be the same column"):
        closes_of(text, Columns("Day", "Day"))
    tickers = "Price,Close,Close\nTicker,A,B\nDate,,\n" + "".join(
        f"{day},5,{close}\n" for day, close in zip(DAYS, CLOSES, strict=True)
    )
    assert closes_of(tickers, Columns("Close B")) == CLOSES


def test_a_column_is_refused_where_no_prices_are_read(tmp_path: Path) -> None:
    for workload in ("digits-cnn", "agnews-small"):
        with pytest.raises(UsageError, match="takes no --column"):
            prepare(workload, None, tmp_path, columns=Columns("Close"))
    with pytest.raises(UsageError, match="add --csv"):
        prepare("sp500-mlp", None, tmp_path, columns=Columns(date="Day"))


def with_row(row: str, behind: str = "Volume", usual: str = "{close:.2f},112940") -> str:
    """A file of a hundred rows whose tenth data row, line 11, is ``row``."""
    lines = [f"{day},{usual.format(close=close)}" for day, close in zip(DAYS, CLOSES, strict=True)]
    lines[9] = f"{DAYS[9]},{row}"
    return "\n".join([f"Date,Close,{behind}", *lines, ""])


@pytest.mark.parametrize(
    "text",
    [
        with_row("1,283.27"),
        with_row("1283,27"),
        with_row("1283,05"),
        with_row("1,283.27", behind="Open", usual="{close:.2f},{close:.2f}"),
        with_row("1283,27", usual="{close:.2f}"),
        with_row("1,283", usual="{close:.2f}"),
    ],
    ids=["thousands", "decimal", "zero", "beside a price", "decimal alone", "thousands alone"],
)
def test_a_price_that_a_comma_has_cut_in_two_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(DataRefused, match=r"p\.csv:11: Close .* look like one price, 1,?283,?\d*.*, that a comma has cut in two"):
        closes_of(text)


def test_a_file_of_cut_prices_only_is_refused() -> None:
    draw = random.Random(11)
    for mark in (",", ",.", ",,"):
        for _ in range(50):
            rows = []
            for day in DAYS:
                price = 1000 + 900 * draw.random()
                whole, part = f"{price:.2f}".split(".")
                rows.append(
                    f"{day}," + (f"{whole},{part}" if mark == "," else f"{whole[0]},{whole[1:]}" + f".{part}" * (mark == ",."))
                )
            with pytest.raises(DataRefused, match=r"p\.csv:\d+: .*cut in two"):
                closes_of("\n".join(["Date,Close,Volume", *rows]))


def test_no_price_file_with_a_volume_is_taken_for_a_cut_one() -> None:
    draw = random.Random(12)
    for _ in range(300):
        level, digits = 10 ** draw.uniform(0.5, 5), draw.choice([0, 1, 2, 6])
        prices = [f"{level * draw.uniform(0.9, 1.1) + 1:.{digits}f}" for _ in range(100)]
        volumes = [str(int(10 ** draw.uniform(2, 9))) for _ in prices]
        assert first_cut_row(prices, volumes, "Volume") is None
        others = [f"{float(price) * draw.uniform(0.9, 1.1):.{draw.choice([0, 2])}f}" for price in prices]
        assert first_cut_row(prices, others, draw.choice(["Open", "high", "Adj Close"])) is None


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('"1,283.27"', "'1,283.27', which has a comma"),
        ('"1283,27"', "'1283,27', which has a comma"),
        ("12_83", "Close is not a number"),
        ("1e400", "not a price above zero"),
    ],
)
def test_a_price_that_is_no_plain_number_is_refused(cell: str, expected: str) -> None:
    with pytest.raises(DataRefused, match=expected):
        closes_of(with_row(f"{cell},5"))


def test_a_decimal_comma_that_may_be_a_thousands_separator_is_refused() -> None:
    with pytest.raises(DataRefused, match=r":2: Close '1,283' is 1283 or 1\.283"):
        closes_of("Date;Close\n" + "".join(f"{day};1,{283 + day.day}\n" for day in DAYS).replace("1,284", "1,283", 1))
    with pytest.raises(DataRefused, match=r":3: Close has a point in '7\.5' and a comma in '7,25' of line 2"):
        closes_of("Date;Close\n2020-01-01;7,25\n2020-01-02;7.5\n")


def test_rows_that_turn_back_in_time_are_refused_in_either_order() -> None:
    lines = [f"{day},{close}" for day, close in zip(DAYS, CLOSES, strict=True)]
    lines[40], lines[60] = lines[60], lines[40]
    for rows in (lines, lines[::-1]):
        with pytest.raises(DataRefused, match=r":4[23]: date .* comes after .*: the rows are not (in time order|newest first)"):
            closes_of("\n".join(["Date,Close", *rows]))


def test_jumps_holes_and_two_series_in_one_file_are_told_with_their_lines() -> None:
    closes = list(CLOSES)
    closes[50] *= 10
    days = [day + timedelta(days=900 * (row > 70)) for row, day in enumerate(DAYS)]
    lines = range(2, 102)
    found = price_warnings([str(day) for day in days], closes, lines)
    assert found == [
        (52, f"the price {closes[50]:g} is {closes[50] / closes[49]:.3g} times that of the row before and after"),
        (73, f"no price from {days[70]} to {days[71]}, 901 days"),
    ]
    months = [date(2015 + month // 12, month % 12 + 1, 1) for month in range(40)]
    daily = [months[-1] + timedelta(days=day + 1) for day in range(60)]
    ((line, sentence),) = price_warnings([str(day) for day in months + daily], CLOSES, lines)
    assert (line, sentence) == (41, "a row every 31 days before, every 1 days from here on: two series in one file")


def test_a_plain_series_has_no_warning() -> None:
    draw = random.Random(13)
    for step in (1, 7, 30, 365):
        day, days, close, closes = date(1900, 1, 1), [], 100.0, []
        for _ in range(120):
            day += timedelta(days=step if step > 1 else 3 if day.weekday() == 4 else draw.choice([1, 1, 1, 2]))
            close *= draw.uniform(0.8, 1.26)
            days.append(str(day))
            closes.append(close)
        assert price_warnings(days, closes, range(120)) == []


def test_many_warnings_of_one_kind_are_counted_and_not_listed() -> None:
    closes = [100.0 if row % 4 else 5000.0 for row in range(1, 101)]
    found = price_warnings([str(day) for day in DAYS], closes, range(2, 102))
    assert len(found) == 6
    assert found[-1][1] == "here and later, 20 more of the same kind"


@pytest.mark.parametrize("kind", ["fifo", "socket-like device", "endless device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = {"socket-like device": Path("/dev/urandom"), "endless device": Path("/dev/zero")}.get(kind, tmp_path / "fifo")
    if kind == "fifo":
        os.mkfifo(path)
    for workload in ("sp500-mlp", "agnews-small"):
        with pytest.raises(DataRefused, match=r"not a regular file .*into a file first"):
            prepare(workload, path, tmp_path)


def test_a_file_beyond_the_limit_is_refused_without_reading_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paceline.engine.datasets.csvfile.MAX_CSV_BYTES", 4 << 20)
    path = tmp_path / "sparse.csv"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataRefused, match="larger than 4 MiB"):
        prepare("sp500-mlp", path, tmp_path)


def test_an_interrupt_ends_the_reading_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("Date,Close\n" + "2020-01-01,7\n")
    stop = threading.Event()
    stop.set()

    def check() -> None:
        if stop.is_set():
            raise Interrupted("stop")

    with pytest.raises(Interrupted):
        prepare("sp500-mlp", path, tmp_path / "data", check=check)
    assert not (tmp_path / "data").exists()


def test_texts_of_one_class_and_texts_seen_in_training_are_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("".join(f'2,"title {row}","text"\n' for row in range(50)))
    plan, _ = prepare("agnews-small", path, tmp_path)
    assert plan.warnings == (f"{path}:1: every row up to line 50 is of class 2: there is nothing to tell apart",)
    path.write_text("".join(f'{row % 3 + 1},"title {row % 40}","Text"\n' for row in range(120)))
    plan, _ = prepare("agnews-small", path, tmp_path)
    assert plan.warnings[0] == f"{path}:1: no row up to line 120 is of class 4 (science)"
    assert f"of {120 // 5} validation texts are also in training, this one in line" in plan.warnings[1]


def test_the_test_part_is_written_beside_the_others_with_the_errors_of_repeating_the_last_value(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("Date,Close\n" + "".join(f"{day},{close}\n" for day, close in zip(DAYS, CLOSES, strict=True)))
    plan, directory = prepare("sp500-mlp", path, tmp_path / "data")
    for part, errors in (("validation", plan.baseline_validation), ("test", plan.baseline_test)):
        x, y = (np.load(directory / f"{part}_{axis}.npy").astype(float) for axis in "xy")
        assert errors is not None
        assert errors.mse == pytest.approx(np.mean((x[:, -1] - y) ** 2), rel=1e-5)
        assert errors.mae == pytest.approx(np.mean(abs(x[:, -1] - y)), rel=1e-5)
        assert errors.r2 == pytest.approx(1 - np.sum((x[:, -1] - y) ** 2) / np.sum((y - y.mean()) ** 2), rel=1e-4)


@pytest.mark.skipif(not FAULTS.exists(), reason="the collected files are not part of the project")
@pytest.mark.parametrize("name", ["E01-yfinance-download", "E02-yfinance-history", "E05-lower-case", "E05-semicolons"])
def test_collected_files_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    plan, _ = prepare("sp500-mlp", FAULTS / f"{name}.csv", tmp_path)
    assert (plan.rows, plan.warnings) == (100, ())
