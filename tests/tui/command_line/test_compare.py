"""The verb ``compare`` on files: found by run or by path, and its exit status for CI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from paceline.tui.command_line.cli import main

from tests.engine.reports.test_compare import bench
from tests.support.screens.documents import documented, paths


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two results of benches, the second one 10 % slower; no node could be reached."""
    for name, rates in (("a", [500.0, 502.0, 498.0]), ("b", [450.0, 452.0, 449.0])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(bench(f"run-{name}", rates)))
    (tmp_path / "nodes.toml").write_text('[[node]]\nname = "far"\nhost = "192.0.2.1"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["--batch", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(("limit", "status"), [((), 0), (("--max-regression", "5%"), 1), (("--max-regression", "0.2"), 0)])
def test_a_regression_beyond_the_limit_and_the_noise_ends_with_status_1(
    results: Path, capsys: pytest.CaptureFixture[str], limit: tuple[str, ...], status: int
) -> None:
    found, out, _ = compare(capsys, "compare", "a", "b/result.json", *limit)
    assert found == status
    assert "hybrid samples_per_second" in out
    assert "beyond the noise" in out
    assert ("regression: hybrid samples_per_second is 9.9 % worse" in out) == bool(status)


def test_the_document_is_the_one_that_is_documented(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = bench("run-b", [450.0, 451.0], global_batch_size=192)
    (results / "b" / "result.json").write_text(json.dumps(changed))
    _, out, _ = compare(capsys, "--json", "compare", "a", "b", "--max-regression", "1%")
    assert paths(json.loads(out)) == documented("compare")


@pytest.mark.parametrize("name", ["nothing", "last", "20260101-0000-abcdef"])
def test_a_result_that_is_not_there_is_named(results: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, _, err = compare(capsys, "compare", "a", name)
    assert status == 2
    assert name in err
    assert "result.json" in err


def test_what_does_not_compare_fails_only_where_a_limit_is_given(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / "b" / "result.json").write_text('{"type": "profile"}')
    assert compare(capsys, "compare", "a", "b")[0] == 0
    assert compare(capsys, "compare", "a", "b", "--max-regression", "5%")[0] == 1
