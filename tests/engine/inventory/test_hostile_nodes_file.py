"""A nodes.toml of which a person, an editor or a disk broke a part: read, or refused with the place; never a traceback."""

from __future__ import annotations

import os
import random
import re
import tomllib
from pathlib import Path

import pytest
from paceline.engine.errors import ConfigurationError
from paceline.engine.inventory.nodes_file import read_inventory
from paceline.tui.terminal.format import sanitize

from tests.support.places import CHECKOUT
from tests.support.screens.hostile import SEQUENCES, SIGNS, unseen

SEED = 20261121
SHIPPED = (CHECKOUT / "nodes.toml").read_text()
FILES = (
    SHIPPED,
    """[defaults]
user = "lab"
python = "~/venv/bin/python"
env = { A = "1", B = "2" }
tags = ["a", "b"]

[[node]]
name = "atlas"
host = "atlas.lab"
port = 2222
jump = "me@gate:22,other"
host_key = "SHA256:abcdefghijabcdefghijabcdefghijabcdefghijabc"
address = "10.0.0.1"
interface = "eth0"
read_only = true
state_dir = "~/state"

[[node]]
name = "demo1"
kind = "embedded"
devices = [
  { name = "RTX 3060", speed = 12.7, memory = "12GiB", noise = 0.1, outliers = 0.01, fixed = "5 ms", rate = "430/s" },
  { name = "GTX 1650", speed = 2.5, memory = "4GiB" },
]

[[node.fault]]
at_step = 10
slowdown = 2.0
until_step = 20
cause = "thermal"
device = 1
""",
)
TOKENS = (
    *(
        "0",
        "-1",
        "1e999",
        "nan",
        "inf",
        "-0.0",
        "9" * 400,
        "1_0",
        "0x10",
        "true",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        "[]",
        "{}",
        "[[]]",
    ),
    *(
        '""',
        '"x"',
        '"../../x"',
        '"-oProxyCommand=x"',
        '"a\\u0000b"',
        '"\\u001b[31m"',
        "'''x'''",
        '"' + "y" * 3000 + '"',
        "[1, 'a', {}]",
    ),
    *(
        "{ a = 1 }",
        "[{}]",
        "[{ name = 1 }]",
        '{ name = "x" }',
        "[" * 200 + "]" * 200,
        "[" * 5000,
        '{ a = "\\u202e" }',
        "1.5",
        '"SHA256:x"',
    ),
)
LINES = (
    *(
        "[[node]]",
        "[node]",
        "[defaults]",
        "[[defaults]]",
        "[[node.fault]]",
        "[node.devices]",
        "[a.b.c]",
        "[]",
        "[[]]",
        "=",
        "x",
        "\\",
    ),
    *(
        'name = "x"',
        "name.a = 1",
        '"na me" = 1',
        '"\\u001b" = 1',
        "'' = 1",
        "kind = 1",
        'kind = "kubernetes"',
        "node = 3",
        "# \x1b[31m",
    ),
)
PLACE = re.compile(r":(\d+): \S")


def spoilt(source: str, random_numbers: random.Random) -> bytes:
    """A valid file with a few things wrong in it."""
    pick = random_numbers.choice
    lines = source.split("\n")
    for _ in range(pick((1, 1, 1, 2, 3, 5))):
        at = random_numbers.randrange(len(lines))
        kind = random_numbers.random()
        if kind < 0.35 and "=" in lines[at]:
            lines[at] = lines[at].partition("=")[0] + "= " + pick(TOKENS)
        elif kind < 0.5:
            lines.insert(at, pick(LINES))
        elif kind < 0.6:
            lines.insert(at, pick(lines))
        elif kind < 0.7:
            del lines[at]
            lines = lines or [""]
        elif kind < 0.8:
            other = random_numbers.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            place = random_numbers.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + pick((*SIGNS, *SEQUENCES, *'"[]{}=.,#\\')) + lines[at][place + pick((0, 1)) :]
    data = "\n".join(lines).encode(errors="surrogatepass")
    if random_numbers.random() < 0.1:
        place = random_numbers.randrange(len(data) + 1)
        data = data[:place] + random_numbers.randbytes(random_numbers.randint(1, 4)) + data[place:]
    return data[: random_numbers.randrange(len(data) + 1)] if random_numbers.random() < 0.05 else data


def read_many(count: int, path: Path) -> dict[str, int]:
    """So many broken files; counts of what came of them."""
    random_numbers = random.Random(SEED)
    counts = dict.fromkeys(("files", "read", "refused", "without a place", "tracebacks", "control characters"), 0)
    for number in range(count):
        data = spoilt(random_numbers.choice(FILES), random_numbers)
        path.write_bytes(data)
        counts["files"] += 1
        try:
            read_inventory(path)
            counts["read"] += 1
        except ConfigurationError as error:
            counts["refused"] += 1
            said = str(error)
            found = PLACE.match(said.removeprefix(str(path)))
            is_empty = said.startswith(f"{path}: no node") and not has_nodes(data)
            is_placed = found is not None and 1 <= int(found[1]) <= data.count(b"\n") + 1
            if not (said.startswith(str(path)) and (is_placed or is_empty)):
                print(f"seed {SEED}, file {number}: {said!r:.300}")
                counts["without a place"] += 1
            counts["control characters"] += len(unseen(sanitize(said, 2000)))
        except Exception as error:
            print(f"seed {SEED}, file {number}: {error!r:.300}")
            counts["tracebacks"] += 1
    print(f"generated nodes.toml, seed {SEED}: {counts}")
    return counts


def has_nodes(data: bytes) -> bool:
    return bool(tomllib.loads(data.decode("utf-8-sig").replace("\r\n", "\n")).get("node"))


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    path = tmp_path / "nodes.toml"
    path.write_text(SHIPPED)
    return path


def test_every_refusal_of_a_file_ends_with_status_2() -> None:
    assert ConfigurationError.exit_status == 2


def test_a_file_that_every_user_may_change_is_refused_and_one_that_a_group_may_change_is_read(valid: Path) -> None:
    valid.chmod(0o664)  # what git makes under umask 002
    read_inventory(valid)
    valid.chmod(0o646)
    with pytest.raises(ConfigurationError, match="every user of this machine can change it"):
        read_inventory(valid)


def test_a_file_of_another_user_is_refused_unless_root_owns_it_or_reads_it(valid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = valid.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 4711)
    if owner == 0:
        read_inventory(valid)
        os.chown(valid, 4712, -1)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        read_inventory(valid)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    read_inventory(valid)


def check(counts: dict[str, int]) -> None:
    assert counts["files"] == counts["read"] + counts["refused"]
    assert (counts["without a place"], counts["tracebacks"], counts["control characters"]) == (0, 0, 0)


def test_generated_files_are_read_or_refused_with_the_place(tmp_path: Path) -> None:
    counts = read_many(1_500, tmp_path / "nodes.toml")
    check(counts)
    assert min(counts["read"], counts["refused"]) > 100


@pytest.mark.slow
def test_ten_thousand_generated_files_are_read_or_refused_with_the_place(tmp_path: Path) -> None:
    check(read_many(10_000, tmp_path / "nodes.toml"))
