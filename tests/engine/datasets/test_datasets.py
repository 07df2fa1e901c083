"""Data come in whole, once, and never replaced: loaders, refusals with their line, the prepared directory."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.datasets import prepare
from paceline.engine.datasets.prices.prices import Prices
from paceline.engine.datasets.prices.sp500 import WINDOW, cut_windows
from paceline.engine.datasets.split import split_by_class
from paceline.engine.errors import DataRefused, StorageFailed, UsageError

from tests.support.places import SHARED_DATA

MONTHLY = SHARED_DATA / "sp500-monthly.csv"


def series(rows: int) -> list[str]:
    """Lines of a plausible price file, header first."""
    first = date(2020, 1, 1)
    return ["Date,Close"] + [f"{first + timedelta(days=day)},{100 + day % 7 + day / 10:.2f}" for day in range(rows)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_digits_are_real_images_in_0_to_1_with_every_class_in_both_parts(tmp_path: Path) -> None:
    plan, path = prepare("digits-cnn", None, tmp_path)
    assert path == tmp_path / plan.digest
    assert (plan.rows, plan.baseline_mse) == (1797, None)
    # What scikit-learn's load_digits gives, as float32 and int64: it is not asked, as its import takes seconds.
    assert plan.sha256 == "faf2d98f61250c1cdc0b114323133d3c58da04f5c5d28bb78e4bde3c936a75b1"
    x, y = np.load(path / "train_x.npy"), np.load(path / "train_y.npy")
    vx, vy = np.load(path / "validation_x.npy"), np.load(path / "validation_y.npy")
    assert (x.shape[1:], x.dtype, y.dtype) == ((1, 8, 8), np.float32, np.int64)
    assert (x.min(), x.max()) == (0, 1)
    assert len(x) + len(vx) == 1797
    assert abs(len(vx) / 1797 - 0.2) < 0.01
    assert set(y.tolist()) == set(vy.tolist()) == set(range(10))


@given(st.lists(st.integers(0, 3), max_size=80))
def test_every_row_of_a_classified_set_lands_in_exactly_one_part(labels: list[int]) -> None:
    train, validation = split_by_class(labels, "seed")
    assert sorted(train + validation) == list(range(len(labels)))
    for label in set(labels):
        assert sum(labels[index] == label for index in validation) == round(labels.count(label) * 0.2)


def test_the_same_input_gives_the_same_directory_and_is_not_written_again(tmp_path: Path) -> None:
    csv = write(tmp_path / "prices.csv", series(200))
    plan, path = prepare("sp500-mlp", csv, tmp_path / "data")
    written = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    assert prepare("sp500-mlp", csv, tmp_path / "data") == (plan, path)
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == written
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == [plan.digest]


def test_other_bytes_give_another_directory(tmp_path: Path) -> None:
    lines = series(200)
    first, _ = prepare("sp500-mlp", write(tmp_path / "prices.csv", lines), tmp_path)
    second, _ = prepare("sp500-mlp", write(tmp_path / "prices.csv", [*lines[:-1], "2020-07-18,1.00"]), tmp_path)
    assert first.digest != second.digest
    assert first.sha256 != second.sha256


@pytest.mark.parametrize("harm", ["cut", "changed", "missing"])
def test_a_broken_directory_is_replaced_and_never_used(tmp_path: Path, harm: str) -> None:
    csv = write(tmp_path / "prices.csv", series(200))
    _, path = prepare("sp500-mlp", csv, tmp_path / "data")
    victim = path / "train_x.npy"
    whole = victim.read_bytes()
    if harm == "cut":
        victim.write_bytes(whole[:100])
    elif harm == "changed":
        victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        victim.unlink()
    prepare("sp500-mlp", csv, tmp_path / "data")
    assert victim.read_bytes() == whole
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == [path.name]


def test_the_manifest_says_what_the_arrays_are_and_what_no_model_reaches(tmp_path: Path) -> None:
    csv = write(tmp_path / "prices.csv", series(200))
    plan, path = prepare("sp500-mlp", csv, tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    assert {key: manifest[key] for key in ("workload", "source", "rows", "sha256", "task", "metric")} == {
        "workload": "sp500-mlp",
        "source": "CSV file prices.csv",
        "rows": 200,
        "sha256": plan.sha256,
        "task": "regression",
        "metric": "mse",
    }
    for name, facts in manifest["arrays"].items():
        array = np.load(path / f"{name}.npy")
        assert (list(array.shape), array.dtype.str) == (facts["shape"], facts["dtype"])
    assert [manifest["split"][part]["windows"] for part in ("train", "validation", "test")] == [98, 21, 21]
    x, y = np.load(path / "validation_x.npy"), np.load(path / "validation_y.npy")
    assert plan.baseline_mse == manifest["baseline"]["validation_mse"] == pytest.approx(np.mean((x[:, -1] - y) ** 2), rel=1e-5)


@given(st.lists(st.floats(1, 1e5), min_size=WINDOW + 20, max_size=WINDOW + 60), st.data())
def test_training_data_and_scaler_never_see_a_later_price(closes: list[float], data: st.DataObject) -> None:
    days = tuple(str(date(2020, 1, 1) + timedelta(days=day)) for day in range(len(closes)))
    known = (len(closes) - WINDOW) * 70 // 100 + WINDOW
    if min(closes[:known]) == max(closes[:known]):
        return
    later = data.draw(st.lists(st.floats(1, 1e5), min_size=len(closes) - known, max_size=len(closes) - known))
    one = cut_windows(Prices(days, tuple(closes), ""), Path("p.csv"), "")
    other = cut_windows(Prices(days, (*closes[:known], *later), ""), Path("p.csv"), "")
    assert one.scaler == other.scaler
    for name in ("train_x", "train_y"):
        assert one.arrays[name].tobytes() == other.arrays[name].tobytes()


BROKEN: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "an empty cell": (lambda rows: [*rows[:40], "2020-02-10,", *rows[42:]], ":41: Close is empty"),
    "a cut row": (lambda rows: [*rows[:40], "2020-02-10", *rows[42:]], ":41: Close is empty"),
    "no date": (lambda rows: [*rows[:40], ",101.5", *rows[42:]], ":41: Date is empty"),
    "a doubled date": (lambda rows: [*rows[:50], rows[49], *rows[50:]], ":51: date 2020-02-18 stands there twice"),
    "unsorted dates": (
        lambda rows: [*rows[:50], rows[60], *rows[50:]],
        ":52: date 2020-02-19 comes after 2020-02-29: the rows are not in time order",
    ),
    "text in a price": (lambda rows: [*rows[:9], "2020-01-09,n/a", *rows[10:]], ":10: Close is not a number: 'n/a'"),
    "a thousands sign": (lambda rows: [*rows[:9], "2020-01-09,1,101.5", *rows[10:]], ":10: 3 cells, but the header names 2"),
    "an underscore": (lambda rows: [*rows[:9], "2020-01-09,1_0", *rows[10:]], ":10: Close is not a number"),
    "NaN": (lambda rows: [*rows[:9], "2020-01-09,nan", *rows[10:]], ":10: Close is not a price above zero"),
    "infinity": (lambda rows: [*rows[:9], "2020-01-09,inf", *rows[10:]], ":10: Close is not a price above zero"),
    "zero": (lambda rows: [*rows[:9], "2020-01-09,0", *rows[10:]], ":10: Close is not a price above zero"),
    "another calendar": (lambda rows: [*rows[:9], "09.01.2020,101", *rows[10:]], ":10: Date is not YYYY-MM-DD"),
    "a missing column": (lambda rows: ["Date,Price", *rows[1:]], ":1: no column Close"),
    "a doubled column": (lambda rows: ["Date,Close,Close", *rows[1:]], ":1: more than one column Close"),
    "an open quote": (lambda rows: [*rows[:-1], '2020-07-18,"1'], ":201: unexpected end of data"),
    "too few rows": (lambda rows: rows[:70], ": 69 rows are too few (needs at least 80)"),
    "nothing but a header": (lambda rows: rows[:1], ": 0 rows are too few"),
    "one price all the time": (lambda rows: [rows[0], *(row.split(",")[0] + ",7" for row in rows[1:])], "are all 7"),
}


@pytest.mark.parametrize("trouble", BROKEN)
def test_a_broken_price_file_is_refused_with_its_line(tmp_path: Path, trouble: str) -> None:
    harm, expected = BROKEN[trouble]
    csv = write(tmp_path / "prices.csv", harm(series(200)))
    with pytest.raises(DataRefused) as refusal:
        prepare("sp500-mlp", csv, tmp_path / "data")
    assert f"{csv}" in str(refusal.value)
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_status == 2
    assert not (tmp_path / "data").exists()


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    csv = tmp_path / "prices.csv"
    with pytest.raises(DataRefused, match="No such file"):
        prepare("sp500-mlp", csv, tmp_path)
    csv.write_bytes(b"")
    with pytest.raises(DataRefused, match="the file is empty"):
        prepare("sp500-mlp", csv, tmp_path)
    csv.write_bytes("Date,Close\n2020-01-01,1\n2020-01-02,¼\n".encode("latin-1"))
    with pytest.raises(DataRefused, match=r"prices\.csv:3: not UTF-8 text"):
        prepare("sp500-mlp", csv, tmp_path)
    with pytest.raises(DataRefused, match="not a regular file"):
        prepare("sp500-mlp", tmp_path, tmp_path)


def test_a_byte_order_mark_crlf_and_other_columns_are_no_trouble(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.csv", series(100))
    decorated = tmp_path / "decorated.csv"
    rows = [f"{row.split(',')[0]},x,{row.split(',')[1]}" for row in series(100)]
    decorated.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*rows, ""]).encode())
    _, one = prepare("sp500-mlp", plain, tmp_path / "data")
    _, other = prepare("sp500-mlp", decorated, tmp_path / "data")
    assert (one / "train_x.npy").read_bytes() == (other / "train_x.npy").read_bytes()


def test_an_unknown_workload_and_a_file_for_images_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no data set 'digitz'.*did you mean digits.*known: digits, fashion-mnist"):
        prepare("digitz", None, tmp_path)
    with pytest.raises(UsageError, match="takes no CSV file"):
        prepare("digits-cnn", tmp_path / "prices.csv", tmp_path)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    csv = write(tmp_path / "prices.csv", series(400))
    program = """
import resource, sys
from pathlib import Path
from paceline.engine.datasets import prepare
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    prepare("sp500-mlp", Path(sys.argv[1]), Path(sys.argv[2]))
except Exception as error:
    sys.stdout.write(f"{type(error).__name__}: {error}")
"""
    data = tmp_path / "data"
    ended = subprocess.run([sys.executable, "-c", program, str(csv), str(data)], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith(f"StorageFailed: cannot write {data}")
    assert "File too large" in ended.stdout
    assert list(data.iterdir()) == []


def test_a_data_directory_that_cannot_be_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file stands here")
    with pytest.raises(StorageFailed, match="cannot write"):
        prepare("sp500-mlp", write(tmp_path / "prices.csv", series(100)), tmp_path / "data")


class Frame:
    """The two things of a pandas frame that the loader uses."""

    def __init__(self, rows: list[tuple[date, float]]) -> None:
        self.index = [types.SimpleNamespace(date=lambda day=day: day) for day, _ in rows]
        self.closes = [close for _, close in rows]

    def get(self, name: str, default: object) -> object:
        return self.closes if name == "Close" else default


class YFException(Exception):
    """As yfinance names it."""


@pytest.fixture
def yahoo(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """yfinance with its network cut off: what Yahoo answers is set by the test, which must not depend on Yahoo."""
    answers = types.SimpleNamespace(answer=Frame([]), asked=0)

    def history(**_: object) -> object:
        answers.asked += 1
        if isinstance(answers.answer, Exception):
            raise answers.answer
        return answers.answer

    module = types.ModuleType("yfinance")
    module.config = types.SimpleNamespace(debug=types.SimpleNamespace(hide_exceptions=True))  # type: ignore[attr-defined]  # the module is a fake
    module.set_tz_cache_location = lambda path: None  # type: ignore[attr-defined]  # the module is a fake
    module.Ticker = lambda name: types.SimpleNamespace(history=history)  # type: ignore[attr-defined]  # the module is a fake
    exceptions = types.ModuleType("yfinance.exceptions")
    exceptions.YFException = YFException  # type: ignore[attr-defined]  # the module is a fake
    monkeypatch.setitem(sys.modules, "yfinance", module)
    monkeypatch.setitem(sys.modules, "yfinance.exceptions", exceptions)
    return answers


@pytest.mark.parametrize(
    "answer",
    [
        OSError("could not resolve host"),
        YFException("Too Many Requests"),
        TypeError("'NoneType' object is not subscriptable"),
        KeyError("chart"),
        AttributeError("no attribute 'update'"),
        None,
        Frame([]),
        Frame([(date(2020, 1, day % 2 + 1), 7.0) for day in range(90)]),
        Frame([(date(2020, 1, 1) + timedelta(days=day), float(day != 40)) for day in range(90)]),
    ],
    ids=["no host", "too many requests", "type error", "key error", "attribute", "none", "no rows", "twice", "zero"],
)
def test_without_yahoo_the_error_says_how_to_go_on_and_nothing_is_made_up(
    tmp_path: Path, yahoo: types.SimpleNamespace, answer: object
) -> None:
    yahoo.answer = answer
    with pytest.raises(DataRefused, match=r"Yahoo Finance.*--c"):
        prepare("sp500-mlp", None, tmp_path)
    assert not list(tmp_path.rglob("*.csv"))
    assert not list(tmp_path.rglob("*.npy"))


def test_prices_of_yahoo_are_kept_without_holes_and_today_and_read_back_the_next_time(
    tmp_path: Path, yahoo: types.SimpleNamespace
) -> None:
    first = date.today() - timedelta(days=200)
    rows = [(first + timedelta(days=day), 100 + day % 9 + day / 8) for day in range(201)]
    rows[50] = (rows[50][0], float("nan"))
    yahoo.answer = Frame(rows)
    plan, path = prepare("sp500-mlp", None, tmp_path)
    assert plan.rows == 199
    assert plan.source == f"Yahoo Finance ^GSPC {rows[0][0]} {rows[-2][0]}"
    yahoo.answer = OSError("offline")
    assert prepare("sp500-mlp", None, tmp_path) == (plan, path)
    assert yahoo.asked == 1


def test_the_price_path_needs_no_pandas(tmp_path: Path) -> None:
    csv = write(tmp_path / "prices.csv", series(100))
    program = """
import sys
from pathlib import Path
from paceline.engine.datasets import prepare
prepare("sp500-mlp", Path(sys.argv[1]), Path(sys.argv[2]))
print(sorted({"pandas", "sklearn", "yfinance", "torch"} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", program, str(csv), str(tmp_path)], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


@pytest.mark.skipif(not MONTHLY.exists(), reason="the real monthly series is not part of the project")
def test_the_real_monthly_series_since_1871_goes_through(tmp_path: Path) -> None:
    plan, path = prepare("sp500-mlp", MONTHLY, tmp_path)
    assert plan.rows == len(MONTHLY.read_text().splitlines()) - 1
    assert np.isfinite(np.load(path / "train_x.npy")).all()
    assert (np.load(path / "train_x.npy").min(), np.load(path / "train_x.npy").max()) == (0, 1)
