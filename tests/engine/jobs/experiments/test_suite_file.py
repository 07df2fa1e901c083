"""A suite from one TOML file, and what is wrong in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from paceline.engine.errors import ConfigurationError
from paceline.engine.jobs.experiments.suite_file import read_suite_file
from paceline.tui.command_line.commands import VERBS

FILE = """
workloads = ["digits-cnn", "agnews-small"]
policies = ["equal", "hybrid"]
repeats = 2
epochs = 4
devices = "lab[1-2]"
name = "mine"
"""


class Door:
    """Keeps what was asked for."""

    async def suite(self, request: Any, name: str | None, resumed: str | None) -> dict[str, Any]:
        self.request, self.name = request, name
        return {}


async def asked(tmp_path: Path, *words: str) -> Door:
    import argparse

    from paceline.tui.command_line.arguments import add_arguments

    path = tmp_path / "suite.toml"
    path.write_text(FILE)
    parser = argparse.ArgumentParser()
    add_arguments(parser, VERBS["suite"].arguments)
    door: Any = Door()
    await VERBS["suite"].perform(door, parser.parse_args([str(path), *words]))
    found: Door = door
    return found


async def test_a_file_describes_a_suite_and_the_command_line_takes_precedence(tmp_path: Path) -> None:
    door = await asked(tmp_path)
    one = door.request
    assert (one.workloads, one.policies, one.repeats) == (("digits-cnn", "agnews-small"), ("equal", "hybrid"), 2)
    assert (one.epochs, one.devices, one.is_quick, door.name) == (4, "lab[1-2]", False, "mine")
    door = await asked(tmp_path, "--policies", "dynamic", "--repeats", "5", "--quick", "--name", "other")
    one = door.request
    assert (one.policies, one.repeats, one.epochs, one.is_quick, door.name) == (("dynamic",), 5, None, True, "other")


WRONG = (
    *('workloads = ["nothing"]', "repeats = 0", 'policies = ["equal", "equal"]', "speed = 3"),
    *("seed = -1", 'quick = "yes"', "workloads = []"),
)


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_key_or_value_is_named_with_its_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(f"epochs = 2\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"suite\.toml:2"):
        read_suite_file(path)
