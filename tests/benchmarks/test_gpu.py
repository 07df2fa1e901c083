"""The command for a machine with a card: its page is whole after every part and says what it could not measure."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.events import DeviceReading

from benchmarks.card.published import CARDS, published
from benchmarks.card.rows import FAILED, GOOD, LOOK, UNMEASURED, Part, Row
from benchmarks.gpu import ROOT, STEPS, Step, main, page, run_step

FACTS = {"card": "none", "device": "cpu", "torch": "2.6.0"}


def test_a_page_shows_what_is_done_so_far_and_counts_its_verdicts() -> None:
    rows = [Row("energy", "joules | sample", "1\x1b[2J", "", GOOD), Row("energy", "other", "2", "3", LOOK)]
    text = page(FACTS, {"energy": rows}, {"energy": 3.0})
    assert "1 good, 1 look, 0 failed, 0 not measured" in text
    assert "| joules \\| sample | 1 [2J |  | good |" in text
    assert text.count("not run yet") == len(STEPS) - 1
    assert "proves nothing about a card" in text


def test_a_row_is_good_within_its_tolerance_only(capsys: pytest.CaptureFixture[str]) -> None:
    part = Part("p")
    part.near("clock", 109.0, 100.0, 0.1)
    part.near("clock", 111.0, 100.0, 0.1)
    part.row("a fact", "7")
    part.unmeasured("power", "no card")
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line.removeprefix("row "))["verdict"] for line in lines] == [GOOD, LOOK, "note", UNMEASURED]


def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}


def test_a_part_that_crashes_or_hangs_keeps_its_rows_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "benchmarks" / "card"
    place.mkdir(parents=True)
    for folder in (place, place.parent):
        (folder / "__init__.py").touch()
    row = json.dumps({"part": "x", "figure": "f", "value": "1", "expected": "", "verdict": GOOD})
    say = f"print('row ' + {row!r}, flush=True)\n"
    (place / "crashes.py").write_text(say + "raise SystemExit('a driver error')\n")
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])"
    (place / "hangs.py").write_text(f"{say}import subprocess, sys, time\n{child}\ntime.sleep(99)\n")
    monkeypatch.setattr("benchmarks.gpu.ROOT", tmp_path)
    rows, log = run_step(Step("crashes", "", 9), "cpu", 30.0, environment(tmp_path))
    assert [(one.figure, one.verdict) for one in rows] == [("f", GOOD), ("the whole part", FAILED)]
    assert rows[1].value == "status 1: a driver error"
    assert "a driver error" in log
    rows, _ = run_step(Step("hangs", "", 9), "cuda", 1.5, environment(tmp_path))
    assert [(one.figure, one.verdict) for one in rows[-1:]] == [("the whole part", FAILED)]
    assert "stopped after" in rows[-1].value


@pytest.mark.slow  # starts the whole program
def test_without_a_card_it_ends_well_and_says_what_it_could_not_measure(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--only", "readings", "--out", "page"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    text = (tmp_path / "page" / "page.md").read_text()
    assert "| readings beside nvidia-smi | torch finds no CUDA device |  | not measured |" in text
    rows = json.loads((tmp_path / "page" / "rows.json").read_text())["rows"]
    assert [row["verdict"] for row in rows] == [UNMEASURED]


def test_no_part_begins_when_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.machine", lambda environment: dict(FACTS))
    status = main(["--device", "cpu", "--only", "readings", "--seconds", "1", "--out", str(tmp_path)])
    assert status == 0
    assert "1 s were over" in (tmp_path / "page.md").read_text()


def test_an_unknown_part_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "colour", "--out", str(tmp_path)])
    assert ended.value.code == 2


def test_a_card_is_found_by_its_longest_name() -> None:
    assert published("NVIDIA H200") is CARDS["H200"]
    assert published("NVIDIA H100 PCIe") is CARDS["H100 PCIe"]
    assert published("NVIDIA L40S") is CARDS["L40S"]
    assert published("NVIDIA A100-SXM4-40GB") is CARDS["A100"]
    assert published("NVIDIA GeForce RTX 3060 Laptop GPU") is CARDS["RTX 3060"]
    assert published("something else") is None


def test_all_parts_may_take_no_more_than_eight_minutes_together() -> None:
    from benchmarks.gpu import TOTAL_SECONDS

    assert TOTAL_SECONDS + 10 <= 8 * 60


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_runs_on_a_processor(tmp_path: Path) -> None:
    assert main(["--device", "cpu", "--out", str(tmp_path), "--seconds", "800"]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {row["verdict"] for row in rows} == {GOOD, "note", UNMEASURED}
    parts = {"readings", "profile", "workloads", "timing", "late reading", "formats", "memory", "two ranks", "energy"}
    assert {row["part"] for row in rows} == parts


SMI = {
    "name": "NVIDIA A10",
    "utilization.gpu": "100",
    "memory.used": "1000",
    "memory.total": "23028",
    "temperature.gpu": "60",
    "power.draw": "140.0",
    "power.limit": "150.0",
    "clocks.sm": "1500",
    "clocks.mem": "[N/A]",
    "pcie.link.gen.current": "4",
    "pcie.link.width.current": "16",
}


def readings_beside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **changes: Any) -> dict[str, str]:
    """Verdicts of our readings beside nvidia-smi's, by figure; of a card that another program would keep busy."""
    from benchmarks.card import readings

    ours = DeviceReading(
        index=0,
        name="NVIDIA A10",
        kind="cuda",
        utilization=0.98,
        memory_used=1000 << 20,
        memory_total=23028 << 20,
        temperature=61.0,
        power=145.0,
        power_limit=150.0,
        clock=1510.0,
        memory_clock=None,
    )
    devices = types.SimpleNamespace(read=lambda: (dataclasses.replace(ours, **changes),))
    monkeypatch.setattr("paceline.engine.agent.telemetry.nvml.load_pynvml", lambda: types.ModuleType("pynvml"))
    monkeypatch.setattr("paceline.engine.agent.telemetry.nvml.NvidiaDevices", lambda module: devices)
    monkeypatch.setattr(readings, "_load", lambda is_over: is_over.wait())
    monkeypatch.setattr(readings, "LOAD_SECONDS", 0.0)
    monkeypatch.setattr(readings, "nvidia_smi", lambda index: SMI)
    readings.measure(Part("readings"), "cuda")
    rows = [json.loads(line.removeprefix("row ")) for line in capsys.readouterr().out.splitlines()]
    return {row["figure"]: row["verdict"] for row in rows}


def test_readings_like_those_of_nvidia_smi_are_good_and_others_are_pointed_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = readings_beside(monkeypatch, capsys)
    assert {figure for figure, verdict in verdicts.items() if verdict == GOOD} == {
        "name",
        "utilization",
        "memory used",
        "memory",
        "temperature",
        "power",
        "power limit",
        "clock",
        "memory clock",
    }
    wrong = readings_beside(monkeypatch, capsys, power=14.5, memory_clock=7000.0, clock=None)
    assert {figure for figure, verdict in wrong.items() if verdict == LOOK} == {"power", "memory clock", "clock"}
    assert readings_beside(monkeypatch, capsys, error="lost") == {"device": LOOK}
