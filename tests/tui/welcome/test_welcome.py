"""The first start: what ~/.ssh/config names, what is asked, what is written, and that nothing is written without a yes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.inventory.first_inventory import first_inventory, write_first_inventory
from paceline.engine.inventory.nodes_file import read_inventory
from paceline.engine.ssh.openssh.config_lines import ConfigError
from paceline.engine.ssh.openssh.host_names import NamedHost, named_hosts
from paceline.tui.command_line.cli import main
from paceline.tui.preferences import Preferences
from paceline.tui.welcome.welcome import Choice, WelcomeApp
from textual.pilot import Pilot

from tests.support.screens.pilots import screen_text
from tests.support.waiting import until

CONFIG = """
Host *
    ServerAliveInterval 30
Include work.d/*.conf
Host atlas  titan ghost-*  !titan2
    HostName atlas.lab
    User eve
Host github.com
    User git
Host forge
    HostName gitlab.com
Host "a name"
Match host x exec true
    User nobody
host=tail
    user = frank
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an ssh configuration."""
    ssh = tmp_path / "home" / ".ssh"
    (ssh / "work.d").mkdir(parents=True)
    (ssh / "config").write_text(CONFIG)
    (ssh / "work.d" / "a.conf").write_text("Host gpu1 gpu2\n  User lab\n")
    return tmp_path / "home"


def test_every_host_that_is_named_is_found_in_its_order_and_patterns_are_left_out(home: Path) -> None:
    hosts, left_out = named_hosts(home / ".ssh" / "config", home)
    assert hosts == [
        NamedHost("gpu1", "", "lab"),
        NamedHost("gpu2", "", "lab"),
        NamedHost("atlas", "atlas.lab", "eve"),
        NamedHost("titan", "atlas.lab", "eve"),
        NamedHost("tail", "", "frank"),
    ]
    assert left_out == 6, "*, ghost-*, !titan2, a name with a space, and two code hosts"
    assert named_hosts(home / "nothing", home) == ([], 0)


def test_a_configuration_that_includes_itself_or_is_no_text_is_refused(home: Path) -> None:
    config = home / ".ssh" / "config"
    config.write_text("Include config\n")
    with pytest.raises(ConfigError, match="too many recursive"):
        named_hosts(config, home)
    config.write_text('Host "atlas\n')
    with pytest.raises(ConfigError, match="quote does not end"):
        named_hosts(config, home)
    config.write_bytes(b"Host \xff\xfe\n")
    assert [host.name for host in named_hosts(config, home)[0]] == ["\ufffd\ufffd"]


def test_whatever_hosts_are_named_the_file_is_a_nodes_toml_that_reaches_them(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    signs = "abz019._-:@/%\"\\'ÄÖ{}#[]"
    for number in range(60):
        hosts = list(dict.fromkeys("".join(chance.choices(signs, k=chance.randint(1, 12))) for _ in range(chance.randint(1, 9))))
        hosts = [host for host in hosts if not host.startswith("-") and not set("@:/[]") & set(host)]
        path = tmp_path / f"{number}.toml"
        write_first_inventory(path, first_inventory(hosts or ["a"]))
        assert [node.host or node.name for node in read_inventory(path).nodes] == (hosts or ["a"])


def test_an_existing_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text("mine")
    for target in (path, tmp_path / "link"):
        if target != path:
            target.symlink_to(path)
        with pytest.raises(UsageError, match="exists already and is left as it is"):
            write_first_inventory(target, first_inventory(["a"]))
    assert path.read_text() == "mine"


async def shows(pilot: Pilot[Choice | None], text: str) -> None:
    """Wait until the screen shows a text."""

    async def pause() -> None:
        await pilot.pause(0.01)

    await until(lambda: text in screen_text(pilot.app), pause)


@pytest.mark.parametrize("size", [(80, 24), pytest.param((160, 50), marks=pytest.mark.slow)])
async def test_machines_are_shown_marked_and_written_after_a_yes_only(home: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    target = tmp_path / "nodes.toml"
    app = WelcomeApp(target, home, Preferences())
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "5 hosts, 6 patterns and code hosts left out")
        await pilot.press("s")
        await shows(pilot, "y write it and open")
        assert all(name in screen_text(app) for name in ("gpu1", "atlas", "eve@atlas.lab"))
        await pilot.press("space")  # not gpu1
        await pilot.press("escape", "s")
        assert not target.exists()
        await shows(pilot, "y write it and open")
        await pilot.press("a")
        await pilot.press("y")
        await shows(pilot, "mark at least one machine")
        assert not target.exists()
        await pilot.press("a", "home", "space", "y")
        await pilot.pause()
    assert app.return_value == Choice(target, True)
    assert [node.name for node in read_inventory(target).nodes] == ["gpu2", "atlas", "titan", "tail"]
    assert target.stat().st_mode & 0o777 == 0o600


async def test_the_embedded_lab_writes_nothing_and_the_tour_can_be_left_out(home: Path, tmp_path: Path) -> None:
    app = WelcomeApp(tmp_path / "nodes.toml", home, Preferences())
    async with app.run_test() as pilot:
        await shows(pilot, "afterwards: yes")
        await pilot.press("t")
        await shows(pilot, "afterwards: no")
        await pilot.press("l")
        await pilot.pause()
    assert app.return_value == Choice(None, False)
    assert not (tmp_path / "nodes.toml").exists()


@pytest.mark.parametrize("reason", ["is there already and is left as it is", "names no machine"])
async def test_where_no_file_can_be_made_the_reason_stands_there(home: Path, tmp_path: Path, reason: str) -> None:
    target = tmp_path / "nodes.toml"
    if "there" in reason:
        target.write_text("mine")
    else:
        (home / ".ssh" / "config").unlink()
    app = WelcomeApp(target, home, Preferences())
    async with app.run_test(size=(160, 50)) as pilot:
        await shows(pilot, reason)
        await pilot.press("s", "q")
        await pilot.pause()
    assert app.return_value is None
    assert not target.exists() or target.read_text() == "mine"


def test_without_a_terminal_there_is_one_clear_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words in (["--welcome"], ["--welcome", "--batch"], ["--welcome", "status"]):
        assert main(words) == 2
        assert capsys.readouterr().err == "paceline: --welcome asks on the screen (use it in a terminal, alone)\n"
    assert main(["--nodes", str(tmp_path / "none.toml"), "--batch", "status"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "paceline --welcome" in error
