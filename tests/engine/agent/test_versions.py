"""Versions of torch and the driver, read from files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from paceline.engine.agent.telemetry.versions import driver_version, torch_version


def test_the_version_of_torch_is_read_and_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert torch_version() == ""
    (tmp_path / "torch" / "version.py").write_text("from typing import Optional\n__version__ = '2.9.1+cu128'\ndebug = False\n")
    assert torch_version() == "2.9.1+cu128"
    monkeypatch.setattr(sys, "path", [])
    assert torch_version() == ""


def test_the_version_is_that_of_the_installed_torch() -> None:
    assert torch_version() == pytest.importorskip("torch").__version__


def test_the_version_of_the_driver_is_that_of_its_module(tmp_path: Path) -> None:
    assert driver_version(tmp_path / "version") == ""
    (tmp_path / "version").write_text("535.104.05\n")
    assert driver_version(tmp_path / "version") == "535.104.05"
