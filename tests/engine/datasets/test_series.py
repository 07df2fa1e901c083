"""Prices as windows: any ticker, multiplied without duplicates, as NPZ and as shards; what is wrong in an NPZ is named."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.datasets import prepare
from paceline.engine.datasets.export import export
from paceline.engine.datasets.prices.multiply import multiplied
from paceline.engine.datasets.prices.yahoo import cached_or_downloaded
from paceline.engine.errors import DataRefused, UsageError


def price_file(path: Path, rows: int = 200) -> Path:
    days = (f"{date(2020, 1, 1) + timedelta(days=day)},{100 + day % 7 + day / 10:.2f}" for day in range(rows))
    path.write_text("\n".join(["Date,Close", *days]) + "\n")
    return path


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {file.stem: np.load(file, allow_pickle=False) for file in path.glob("*.npy")}


@given(rows=st.integers(1, 40), times=st.integers(1, 30), seed=st.integers(0, 5), flat=st.booleans())
@settings(deadline=None, max_examples=15)
def test_copies_are_noisy_and_no_two_rows_are_alike(rows: int, times: int, seed: int, flat: bool) -> None:
    x = np.zeros((rows, 60), dtype=np.float32) if flat else np.random.default_rng(seed).random((rows, 60), dtype=np.float32)
    y = x[:, -1].copy()
    chunks = list(multiplied(x, y, times, 0.01, seed))
    all_x, all_y = np.concatenate([one for one, _ in chunks]), np.concatenate([other for _, other in chunks])
    assert (len(all_x), len(all_y)) == (rows * times, rows * times)
    assert (all_x[:rows] == x).all()
    copies = np.concatenate([all_x, all_y[:, None]], axis=1)[rows:]
    assert len(np.unique(copies, axis=0)) == len(copies)
    if times > 5 and rows > 5:
        noise = all_x[rows:] - np.tile(x, (times - 1, 1))
        assert 0.009 < noise.std() < 0.011
        assert abs(noise.mean()) < 0.001


def test_only_the_training_part_is_multiplied_and_shards_hold_the_same_rows(tmp_path: Path) -> None:
    file = price_file(tmp_path / "prices.csv")
    _, plain = prepare("sp500", file, tmp_path / "data")
    plan, many = prepare("sp_500", file, tmp_path / "data", options={"multiply": 50})
    _, sharded = prepare("sp500", file, tmp_path / "data", options={"multiply": 50, "shard_mb": 1})
    one, fifty, parts = arrays(plain), arrays(many), arrays(sharded)
    for name in ("validation_x", "validation_y", "test_x", "test_y"):
        assert (one[name] == fifty[name]).all()
        assert (one[name] == parts[name]).all()
    assert (fifty["train_x"][:98] == one["train_x"]).all()
    assert (plan.training_rows, fifty["train_x"].shape) == (4900, (4900, 60))
    names = sorted(name for name in parts if name.startswith("train_x"))
    assert names == ["train_x-00000", "train_x-00001"]
    assert (np.concatenate([parts[name] for name in names]) == fifty["train_x"]).all()
    assert [len(parts[name]) for name in names] == [len(parts[name.replace("x", "y")]) for name in names]
    assert json.loads((many / "manifest.json").read_text())["multiplied"]["times"] == 50
    for options, text in (
        ({"multiply": 0}, "times 0"),
        ({"multiply": 2, "noise": 0.0}, "copies would be alike"),
        ({"noise": "x"}, "number"),
    ):
        with pytest.raises(UsageError, match=text):
            prepare("sp500", file, tmp_path / "data", options=options)


def test_npz_goes_out_and_comes_back_the_same_also_for_the_workload(tmp_path: Path) -> None:
    file = price_file(tmp_path / "prices.csv")
    plan, path = prepare("sp500", file, tmp_path / "data", options={"multiply": 3, "shard_mb": 0})
    written = export(path, tmp_path / "out")
    assert [one.name for one in written] == ["manifest.json", "sp500.npz"]
    with np.load(tmp_path / "out/sp500.npz", allow_pickle=False) as npz:
        assert {"X_train", "y_train", "X_val", "y_val", "X_test", "y_test", "minimum", "maximum"} == set(npz.files)
        assert npz["X_train"].shape == (294, 60)
    expected = arrays(path)
    for name in ("sp500", "sp500-mlp"):
        again, back = prepare(name, tmp_path / "out/sp500.npz", tmp_path / "data")
        assert all((arrays(back)[stem] == array).all() for stem, array in expected.items())
        assert again.baseline_test is not None
        assert plan.baseline_test is not None
        assert again.baseline_test.mse == pytest.approx(plan.baseline_test.mse)
    before = (tmp_path / "out/sp500.npz").read_bytes()
    export(path, tmp_path / "out")  # over what was exported before
    assert (tmp_path / "out/sp500.npz").read_bytes() == before
    _, sharded = prepare("sp500", file, tmp_path / "data", options={"multiply": 40, "shard_mb": 1})
    export(sharded, tmp_path / "joined", "npz")
    with np.load(tmp_path / "joined/sp500.npz") as npz:
        assert npz["X_train"].shape == (3920, 60)


def save(path: Path, **parts: Any) -> Path:
    draw = np.random.default_rng(0)
    whole = {f"{axis}_{part}": draw.random((20, 60)[: 2 if axis == "X" else 1]) for part in ("train", "test") for axis in "Xy"}
    np.savez(path, **{name: array for name, array in (whole | parts).items() if array is not None})
    return path


def test_other_spellings_types_and_shapes_are_read(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.random((100, 60, 1)), draw.random((100, 1))
    np.savez_compressed(tmp_path / "their.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9], names=np.array([1, 2]))
    plan, path = prepare("sp500", tmp_path / "their.npz", tmp_path / "data")
    found = arrays(path)
    assert (found["train_x"].shape, found["validation_x"].shape, found["test_y"].shape) == ((82, 60), (18, 60), (9,))
    assert (found["train_x"] == x[:82, :, 0].astype(np.float32)).all()
    assert any("the last 18 training windows" in warning for warning in plan.warnings)


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "objects": (lambda path: save(path, y_test=np.array([None] * 20)), "y_test.npy holds Python objects"),
    "text": (lambda path: save(path, y_test=np.array(["a"] * 20)), "not numbers"),
    "no targets": (lambda path: save(path, y_test=None), "X_test.npy has no companion"),
    "no training": (lambda path: save(path, X_train=None, y_train=None), "no array X_train"),
    "empty": (lambda path: save(path, X_test=np.zeros((0, 60)), y_test=np.zeros(0)), "X_test.npy is empty"),
    "unequal": (lambda path: save(path, y_train=np.zeros(21)), "20 rows in X_train.npy but 21 in y_train.npy"),
    "other windows": (lambda path: save(path, X_test=np.zeros((20, 59))), r"rows of X_test.npy have the shape \(59,\)"),
    "images": (lambda path: save(path, X_train=np.zeros((20, 3, 8)), X_test=np.zeros((20, 3, 8))), "instead of one window"),
    "many targets": (lambda path: save(path, y_train=np.zeros((20, 2))), "rows of y_train.npy"),
    "not finite": (
        lambda path: save(path, X_train=np.where(np.arange(1200).reshape(20, 60) == 907, np.nan, 1.0)),
        "row 16: a value",
    ),
    "twice": (lambda path: save(path, train_x=np.zeros((20, 60))), "are both train_x"),
    "column order": (lambda path: save(path, X_train=np.asfortranarray(np.random.rand(20, 60))), "column order"),
    "cut": (lambda path: path.write_bytes(save(path).read_bytes()[:-300]), "not a whole NPZ file"),
    "no archive": (lambda path: path.write_bytes(b"PK nothing"), "not a whole NPZ file"),
    "missing": (lambda path: None, "no such file|No such file"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_broken_npz_is_refused_with_file_and_array(tmp_path: Path, harm: str) -> None:
    make, text = HARMS[harm]
    make(tmp_path / "data.npz")
    with pytest.raises(DataRefused, match=text) as refusal:
        prepare("sp500", tmp_path / "data.npz", tmp_path / "data")
    assert "data.npz" in str(refusal.value)
    assert not (tmp_path / "data").exists() or list((tmp_path / "data").iterdir()) == []


def test_a_member_outside_and_a_header_that_promises_too_much_are_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.npz").read_bytes()
    for name in ("../../X_val.npy", "/etc/X_val.npy", "folder/X_val.npy", "X.txt"):
        path = tmp_path / "data.npz"
        path.write_bytes(whole)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"x")
        with pytest.raises(DataRefused, match="does not belong into an NPZ file"):
            prepare("sp500", path, tmp_path / "data")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 60)})
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("X_train.npy", header.getvalue() + bytes(480))
    with pytest.raises(DataRefused, match="bytes instead of"):
        prepare("sp500", tmp_path / "data.npz", tmp_path / "data")


@pytest.mark.parametrize("trials", [60, pytest.param(1500, marks=pytest.mark.slow)])
def test_random_harm_to_an_npz_is_refused_or_gives_finite_windows(tmp_path: Path, trials: int) -> None:
    draw = random.Random(trials)
    whole = save(tmp_path / "data.npz").read_bytes()
    refused = 0
    for _ in range(trials):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            place = draw.choice((draw.randrange(len(content)), draw.randrange(200), len(content) - 1 - draw.randrange(300)))
            match draw.randrange(3):
                case 0:
                    content[place] ^= 1 << draw.randrange(8)
                case 1:
                    del content[place : place + draw.randint(1, 40)]
                case _:
                    content[place:place] = draw.randbytes(draw.randint(1, 9))
        (tmp_path / "data.npz").write_bytes(bytes(content))
        try:
            _, path = prepare("sp500", tmp_path / "data.npz", tmp_path / "data")
            assert all(np.isfinite(array).all() for array in arrays(path).values())
        except DataRefused:
            refused += 1
    assert refused > trials / 2
    assert not list((tmp_path / "data").glob(".preparing-*"))


def test_each_ticker_and_number_of_years_has_its_own_cache_and_odd_names_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sp500"
    folder.mkdir()
    for name in (
        "^GSPC_2020-01-01_2024-12-31",
        "^GSPC_2020-01-01_2025-12-31",
        "AAPL_2020-01-01_2024-12-31",
        "^GSPC_2015-01-01_2025-01-01_10y",
    ):
        price_file(folder / f"{name}.csv")
    assert cached_or_downloaded(tmp_path).name == "^GSPC_2020-01-01_2025-12-31.csv"
    assert cached_or_downloaded(tmp_path, "AAPL").name.startswith("AAPL")
    assert cached_or_downloaded(tmp_path, "^GSPC", 10).name.endswith("_10y.csv")
    for ticker in ("../../etc", "A/B", "", "A" * 30, "a_b", "*"):
        with pytest.raises(UsageError, match="is no ticker"):
            cached_or_downloaded(tmp_path, ticker)
    with pytest.raises(UsageError, match="0 years"):
        cached_or_downloaded(tmp_path, "^GSPC", 0)


def test_generated_prices_say_so_and_can_be_forecast_a_little(tmp_path: Path) -> None:
    plan, path = prepare("synthetic_series", None, tmp_path, options={"days": 2000})
    found = arrays(path)
    assert "not real ones" in plan.source
    inputs = np.concatenate([found["train_x"], np.ones((len(found["train_x"]), 1))], axis=1)
    weights, *_ = np.linalg.lstsq(inputs, found["train_y"], rcond=None)
    judged = np.concatenate([found["test_x"], np.ones((len(found["test_x"]), 1))], axis=1) @ weights
    assert plan.baseline_test is not None
    assert np.mean((judged - found["test_y"]) ** 2) < plan.baseline_test.mse
