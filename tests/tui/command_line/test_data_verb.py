"""The verb ``data`` lists data sets, prepares one from local files, writes it where one wants it, and looks at it again."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from paceline.tui.command_line.cli import main

from tests.support.screens.documents import documented, paths

_LISTS = {"arrays", "options", "datasets"}
"""Fields that are empty lists in one of the two documents."""


def prices(path: Path) -> Path:
    days = (f"{date(2020, 1, 1) + timedelta(days=day)},{100 + day % 7 + day / 10:.2f}" for day in range(200))
    path.write_text("\n".join(["Date,Close", *days]) + "\n")
    return path


def test_its_documents_are_documented_and_its_text_names_source_arrays_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nodes.toml").write_text('[[node]]\nname = "demo1"\nkind = "embedded"\ndevices = [{ name = "A", speed = 1.0 }]\n')
    prices(tmp_path / "prices.csv")
    assert main(["--json", "data"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert main(["--json", "data", "sp500", "prices.csv", "--multiply", "10", "--out", "out"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert (paths(listed) | paths(one)) - _LISTS == documented("data") - _LISTS
    assert {"cifar10", "multi30k", "sp500"} < {found["name"] for found in listed["datasets"]}
    assert {array["name"]: array["shape"] for array in one["arrays"]}["train_x"] == [980, 60]
    assert one["written"] == ["out/manifest.json", "out/sp500.npz"]
    assert Path(one["directory"]).parent == tmp_path / "data"

    assert main(["data", "./out"]) == 0
    assert "sp500: CSV file prices.csv, training part times 10 with noise 0.01" in capsys.readouterr().out
    assert main(["data", "sp500", "out/sp500.npz"]) == 0
    assert "train_x          <f4   980 x 60" in capsys.readouterr().out
    (tmp_path / "out/sp500.npz").write_bytes((tmp_path / "out/sp500.npz").read_bytes()[:-5])
    assert main(["data", "./out"]) == 2
    assert "a file is missing or not as its manifest says" in capsys.readouterr().err
    for words, text in (
        (["nothing"], "there is no data set 'nothing'"),
        (["sp500", "prices.csv", "--length", "3"], "sp500 has no option 'length' (its options: ticker"),
        (["synthetic-text", "prices.csv"], "takes no file"),
        (["sp500", "prices.csv", "--out", "."], "holds other files"),
        (["sp500", "prices.csv", "--out", "prices.csv"], "is a file"),
    ):
        assert main(["data", *words]) == 2
        assert text in capsys.readouterr().err
