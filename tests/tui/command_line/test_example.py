"""The verb ``example`` prints a script that can be saved and started as it is."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from paceline.engine.jobs.scripts.examples import EXAMPLES
from paceline.tui.command_line.cli import main

from tests.support.places import CHECKOUT
from tests.support.screens.documents import documented, paths


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_printed_is_the_file_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["example", name]) == 0
    printed = capsys.readouterr().out
    ast.parse(printed)
    assert printed == (CHECKOUT / "engine/script/examples" / f"{name.replace('-', '_')}.py").read_text()


def test_its_document_is_documented_and_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--json", "example", "digits-cnn"]) == 0
    assert paths(json.loads(capsys.readouterr().out)) == documented("example")
    assert main(["example", "nothing"]) == 2
    assert "there is no example 'nothing' (known: digits-cnn, " in capsys.readouterr().err
