"""Fetching files of a run: what comes home, what never does, and that nothing is written anywhere else."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import random
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.runs import artifacts
from paceline.engine.errors import NodeUnreachable, PacelineError, StorageFailed, UsageError, WorkFailed
from paceline.engine.events import Event
from paceline.engine.jobs.files import safe_write
from paceline.engine.jobs.files.fetch import fetch
from paceline.engine.jobs.files.safe_names import check_entries, is_run_id, match_names, refusal_reason
from paceline.engine.jobs.files.safe_write import DownloadDir

from tests.support.screens.hostile import NAMES, HostileNode

RUN = "20260101-0000-abcdef"
ROW = {"run_id": RUN, "nodes": ["n0"]}
SEED = 20261121


class NodeFiles:
    """A node that is a directory and answers with the agent's own functions. ``before(word, body)`` may interfere."""

    def __init__(self, run: Path, before: Callable[[str, dict[str, Any]], None] = lambda word, body: None) -> None:
        self.run, self._before = run, before

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        self._before(word, body)
        if word == "list_files":
            return artifacts.list_files(self.run)
        if word == "checksum":
            return artifacts.checksum(self.run, body["name"])
        return artifacts.read_chunk(self.run, body["name"], body["offset"])


class Nodes:
    """What fetching needs of a fleet."""

    def __init__(self, **links: Any) -> None:
        self._links = links

    async def link(self, name: str, patience: float = 0.0) -> Any:
        return self._links[name]


def forget(event: Event) -> None:
    pass


async def fetch_run(link: Any, to: Path, *patterns: str) -> dict[str, Any]:
    fleet: Any = Nodes(n0=link)
    return await fetch(ROW, patterns, to, fleet, connected=["n0"], publish=forget, patience=0.0)


def states(document: dict[str, Any]) -> dict[str, str]:
    return {file["name"]: file["state"] for file in document["files"]}


def tree(path: Path) -> dict[str, bytes | None]:
    """Every name below a directory, and what regular files hold."""
    found = sorted(path.rglob("*"))
    return {str(one.relative_to(path)): one.read_bytes() if one.is_file() and not one.is_symlink() else None for one in found}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory on a node, with two checkpoints and a log."""
    path = tmp_path / "node" / "runs" / RUN
    (path / "checkpoints").mkdir(parents=True)
    (path / "checkpoints" / "1.pt").write_bytes(b"first")
    (path / "checkpoints" / "2.pt").write_bytes(os.urandom(safe_write.READ_BLOCK_BYTES + 12345))
    (path / "out.log").write_text("hello\n")
    return path


async def test_checkpoints_are_fetched_byte_for_byte_and_for_this_user_alone(run: Path, tmp_path: Path) -> None:
    document = await fetch_run(NodeFiles(run), tmp_path / "home")
    home = tmp_path / "home" / "n0"
    assert document["state"] == "done"
    assert states(document) == {"checkpoints/1.pt": "fetched", "checkpoints/2.pt": "fetched"}
    assert tree(home / "checkpoints") == tree(run / "checkpoints")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("home/**/*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home", *tmp_path.glob("home/**/")) if path.is_dir()} == {
        0o700
    }
    assert not (tmp_path / "home" / ".incoming").exists()


async def test_a_pattern_or_a_directory_chooses_and_then_logs_come_too(run: Path, tmp_path: Path) -> None:
    assert set(states(await fetch_run(NodeFiles(run), tmp_path / "a", "*.log"))) == {"out.log"}
    assert set(states(await fetch_run(NodeFiles(run), tmp_path / "b", "checkpoints"))) == {"checkpoints/1.pt", "checkpoints/2.pt"}


async def test_a_pattern_that_matches_nothing_says_what_there_is(run: Path, tmp_path: Path) -> None:
    document = await fetch_run(NodeFiles(run), tmp_path / "a", "models", "*.onnx")
    assert (document["state"], document["files"]) == ("incomplete", [])
    assert [node["reason"] for node in document["nodes"]] == ["nothing matches models *.onnx; there are checkpoints"]
    shutil.rmtree(run / "checkpoints")
    document = await fetch_run(NodeFiles(run), tmp_path / "b")
    assert (document["state"], document["nodes"][0]["reason"]) == ("done", "it has no files beside its logs")


async def test_fetching_again_finds_the_same_files_and_writes_none(run: Path, tmp_path: Path) -> None:
    await fetch_run(NodeFiles(run), tmp_path / "home")
    inodes = {path: path.stat().st_ino for path in (tmp_path / "home").rglob("*")}
    document = await fetch_run(NodeFiles(run), tmp_path / "home")
    assert set(states(document).values()) == {"present"}
    assert {path: path.stat().st_ino for path in (tmp_path / "home").rglob("*")} == inodes


async def test_an_existing_file_is_never_overwritten(run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "home" / "n0" / "checkpoints" / "1.pt"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine!")
    document = await fetch_run(NodeFiles(run), tmp_path / "home")
    assert states(document) == {"checkpoints/1.pt": "kept", "checkpoints/2.pt": "fetched"}
    assert document["state"] == "incomplete"
    assert mine.read_bytes() == b"mine!"


async def test_a_fetch_goes_on_from_the_byte_where_it_was_broken_off(run: Path, tmp_path: Path) -> None:
    """Broken off at every piece in turn, it leaves nothing half-written under a name, and ends with the same bytes."""
    asked: list[int] = []

    def breaks(word: str, body: dict[str, Any]) -> None:
        if word == "read_file" and body["name"].endswith("2.pt"):
            asked.append(body["offset"])
            if body["offset"] > asked[0]:
                raise NodeUnreachable("the link was lost", node="n0")

    rounds = 0
    while not (tmp_path / "home/n0/checkpoints/2.pt").exists():
        asked.clear()
        await fetch_run(NodeFiles(run, breaks), tmp_path / "home")
        rounds += 1
    assert rounds == 5
    assert tree(tmp_path / "home/n0/checkpoints") == tree(run / "checkpoints")
    assert not (tmp_path / "home" / ".incoming").exists()


async def test_an_interrupted_fetch_leaves_no_name_behind(run: Path, tmp_path: Path) -> None:
    reached = asyncio.Event()

    class Stalling(NodeFiles):
        async def ask(self, word: str, **body: Any) -> dict[str, Any]:
            if word == "checksum" and body["name"].endswith("2.pt"):
                reached.set()
                await asyncio.Event().wait()
            return await super().ask(word, **body)

    task = asyncio.create_task(fetch_run(Stalling(run), tmp_path / "home"))
    await reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert set(tree(tmp_path / "home" / "n0")) == {"checkpoints", "checkpoints/1.pt"}
    assert (await fetch_run(NodeFiles(run), tmp_path / "home"))["state"] == "done"


async def test_a_file_that_changes_meanwhile_is_not_taken_for_whole(run: Path, tmp_path: Path) -> None:
    def change(word: str, body: dict[str, Any]) -> None:
        if word == "checksum" and body["name"].endswith("1.pt"):
            (run / "checkpoints" / "1.pt").write_bytes(b"other")

    document = await fetch_run(NodeFiles(run, change), tmp_path / "home", "checkpoints/1.pt")
    assert (document["files"][0]["state"], document["state"]) == ("failed", "incomplete")
    assert "changed" in document["files"][0]["reason"]
    assert tree(tmp_path / "home") == {}


async def test_symlinks_pipes_and_sockets_are_listed_and_not_created(run: Path, tmp_path: Path) -> None:
    (run / "link").symlink_to("/etc/passwd")
    (run / "linked").symlink_to("/etc")
    os.mkfifo(run / "pipe")
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(run)
    server.bind("socket")
    os.chdir(here)
    document = await fetch_run(NodeFiles(run), tmp_path / "home")
    server.close()
    told = states(document)
    assert {told[name] for name in ("link", "linked", "pipe", "socket")} == {"skipped"}
    assert document["state"] == "done"
    assert {name for name in tree(tmp_path / "home" / "n0") if "/" not in name} == {"checkpoints"}


@pytest.mark.parametrize("name", ["../../out", "/etc/hostname", "link", "linked/hostname", "pipe", ".", "", "a\0b", "checkpoints"])
def test_the_agent_reads_nothing_outside_the_run_and_waits_for_no_pipe(run: Path, name: str) -> None:
    (run / "link").symlink_to("/etc/hostname")
    (run / "linked").symlink_to("/etc")
    os.mkfifo(run / "pipe")
    with pytest.raises(WorkFailed, match="cannot read"):
        artifacts.read_chunk(run, name, 0)
    with pytest.raises(WorkFailed, match="cannot read"):
        artifacts.checksum(run, name)


def test_a_run_directory_that_is_a_link_is_no_run(run: Path) -> None:
    (run.parent / "other").symlink_to(run)
    with pytest.raises(UsageError, match="no run other"):
        artifacts.list_files(run.parent / "other")


async def test_two_nodes_have_a_directory_each(run: Path, tmp_path: Path) -> None:
    nodes: Any = Nodes(n0=NodeFiles(run), n1=NodeFiles(run))
    row = {"run_id": RUN, "nodes": ["n0", "n1", "n2"]}
    document = await fetch(row, (), tmp_path / "home", nodes, connected=["n0", "n1"], publish=forget)
    assert tree(tmp_path / "home" / "n0") == tree(tmp_path / "home" / "n1")
    assert [node["state"] for node in document["nodes"]] == ["ok", "ok", "lost"]
    assert document["state"] == "incomplete"


async def test_a_full_disk_is_one_line_before_the_first_byte(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DownloadDir, "free_bytes", lambda self: 4)
    with pytest.raises(StorageFailed, match=r"no space for 'checkpoints/1.pt' of n0: 5 bytes more, 4 are free"):
        await fetch_run(NodeFiles(run), tmp_path / "home")


async def test_a_directory_that_cannot_be_made_is_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a directory belongs")
    with pytest.raises(StorageFailed, match="cannot write"):
        await fetch_run(NodeFiles(run), tmp_path / "home")


async def test_two_fetches_into_one_directory_do_not_meet(run: Path, tmp_path: Path) -> None:
    first = DownloadDir(tmp_path / "home", "n0")
    with pytest.raises(WorkFailed, match="another process is fetching"):
        await fetch_run(NodeFiles(run), tmp_path / "home")
    first.close()


def test_a_link_in_the_way_here_is_not_followed(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "home" / "n0").mkdir(parents=True)
    (tmp_path / "home" / "n0" / "checkpoints").symlink_to(outside)
    document = asyncio.run(fetch_run(NodeFiles(run), tmp_path / "home"))
    assert set(states(document).values()) == {"kept"}
    assert tree(outside) == {}


def test_names_that_two_systems_read_differently_are_refused() -> None:
    accepted = {name for name in NAMES if refusal_reason(name) is None}
    assert {"a", "checkpoints/1.pt", "é", "-rf", "~", "x" * 255, "d/" * 31 + "x"} <= accepted
    assert not accepted & {
        "..",
        "../x",
        "/etc/passwd",
        "a//b",
        "a\\b",
        "con",
        "NUL.txt",
        "x.",
        "x ",
        "a\u202eb",
        "\udcff",
        "x" * 256,
    }
    same = [
        {"name": name, "kind": "file", "size": 1, "mtime_ns": 0} for name in ("A", "a", "é", "e\u0301", "a/b", "c/d", "C/e", "c")
    ]
    offers, refusals = check_entries(same)
    assert [offer.name for offer in offers] == ["A", "é", "c/d"]
    assert {refusal.name for refusal in refusals} == {"a", "e\u0301", "a/b", "C/e", "c"}


def test_only_words_without_tricks_name_a_run() -> None:
    assert is_run_id(RUN)
    assert not any(is_run_id(name) for name in ("..", ".", "", "-x", "a/b", "a b", "x" * 65, None, 7, "a\n"))


def test_without_a_pattern_mirrored_files_are_left_out() -> None:
    assert match_names(["out.log", "ranks/0.jsonl", "ranks/best.pt", "plan.json", "model.pt"], ()) == ["ranks/best.pt", "model.pt"]


def attack(count: int, place: Path) -> dict[str, int]:
    """So many hostile nodes, one after another, into one directory; counts of what happened."""
    counts = dict.fromkeys(("trees", "files", "refused", "own errors", "tracebacks", "writes outside"), 0)
    random_numbers = random.Random(SEED)
    outside = place / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    home = outside / "home"

    async def all_of_them() -> None:
        for number in range(count):
            counts["trees"] += 1
            try:
                document = await fetch_run(HostileNode(random_numbers), home / str(number % 50))
                found = list(states(document).values())
                counts["files"] += found.count("fetched")
                counts["refused"] += found.count("refused")
            except PacelineError:
                counts["own errors"] += 1
            except Exception as error:
                print(f"seed {SEED}, tree {number}: {error!r}")
                counts["tracebacks"] += 1

    asyncio.run(all_of_them())
    assert tree(place).keys() - {"outside"} == {name for name in tree(place) if name.startswith("outside/")}
    landed = [path for path in home.rglob("*") if not path.is_dir() or path.is_symlink()]
    for path in landed:
        inside = path.relative_to(home).parts
        status = path.lstat()
        is_good = stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600 and inside[1] == "n0"
        counts["writes outside"] += not ((is_good and path.read_bytes() == b"bytes") or inside[1] == ".incoming")
    counts["writes outside"] += {path.name for path in outside.iterdir()} != {"precious", "home"}
    counts["writes outside"] += (outside / "precious").read_bytes() != b"precious"
    print(f"hostile file trees, seed {SEED}: {counts}")
    return counts


def test_hostile_file_trees_write_nothing_outside(tmp_path: Path) -> None:
    counts = attack(300, tmp_path)
    assert (counts["tracebacks"], counts["writes outside"]) == (0, 0)
    assert counts["files"] > 20


@pytest.mark.slow
def test_ten_thousand_hostile_file_trees_write_nothing_outside(tmp_path: Path) -> None:
    counts = attack(10_000, tmp_path)
    assert (counts["trees"], counts["tracebacks"], counts["writes outside"]) == (10_000, 0, 0)


CALLS = ("open", "mkdir", "pwrite", "fsync", "link", "unlink", "scandir", "stat", "fstatvfs")
"""What fetching asks of the system."""


def test_whatever_the_disk_refuses_nothing_half_written_gets_a_name(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call fails, then the second, and so on, until a fetch needs no more calls than that."""
    real = {name: getattr(os, name) for name in CALLS}
    tries = refused = 0
    while True:
        tries += 1
        calls, home, node = iter(range(tries)), tmp_path / f"home{tries}", Remembered(run)

        def failing(name: str, *args: Any, calls: Any = calls, **options: Any) -> Any:
            if next(calls, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real[name](*args, **options)

        for name in CALLS:
            monkeypatch.setattr(os, name, functools.partial(failing, name))
        is_spent = False
        try:
            document = asyncio.run(fetch_run(node, home))
            is_spent = document["state"] == "done" and next(calls, None) is not None
        except StorageFailed:
            refused += 1
        finally:
            for name in CALLS:
                monkeypatch.setattr(os, name, real[name])
        here = {path: path.read_bytes() for path in (home / "n0").rglob("*") if path.is_file()}
        assert all(data == (run / path.relative_to(home / "n0")).read_bytes() for path, data in here.items())
        assert asyncio.run(fetch_run(NodeFiles(run), home))["state"] == "done"
        if is_spent:
            break
    print(f"fetches with a call refused: {tries - 1}, told in one line: {refused}")
    assert refused > 20


class Remembered(NodeFiles):
    """A node whose answers were taken before the disk here begins to fail."""

    def __init__(self, run: Path) -> None:
        super().__init__(run)
        names = [entry["name"] for entry in artifacts.list_files(run)["entries"]]
        self._answers: dict[tuple[str, ...], dict[str, Any]] = {("list_files",): artifacts.list_files(run)}
        for name in names:
            self._answers["checksum", name] = artifacts.checksum(run, name)
            for offset in range(0, (run / name).stat().st_size + artifacts.FILE_CHUNK_BYTES, artifacts.FILE_CHUNK_BYTES):
                self._answers["read_file", name, str(offset)] = artifacts.read_chunk(run, name, offset)

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        key = (word, *(str(body[field]) for field in ("name", "offset") if field in body))
        return self._answers[key]
