"""``clean``: what is in use stays, links are not followed, and nothing outside the root is touched."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.rpc.dispatch import REQUESTS
from paceline.engine.agent.runs import cleanup
from paceline.engine.agent.system.processes import RUN_ID_VARIABLE
from paceline.engine.agent.system.state_dir import StateDir
from paceline.engine.errors import NodeUnreachable, UsageError, WorkFailed
from paceline.engine.jobs.runs.clean import CLEAN_KINDS, CleanRequest, classify_items, clean, missing_copy_reason
from paceline.tui.command_line.render import render

from tests.support.screens.hostile import NAMES, mutated
from tests.tui.command_line.test_cli import EMBEDDED, paceline

DIGEST = "ab" * 8
BUNDLE = "cd" * 32 + ".zip"
LONG_AGO = 1_000_000_000.0


RUN = "r-of-clean"
"""Its own name: a process of another test that names its run so would keep it."""


@pytest.fixture
def home(tmp_path: Path) -> StateDir:
    """A node with a run that ended, its data and an old bundle."""
    home = StateDir(tmp_path / "root", "n0")
    home.prepare()
    run = home.runs / RUN
    (run / "ranks").mkdir(parents=True)
    (run / "ranks" / "0.jsonl").write_text("12345")
    (run / "plan.json").write_text(json.dumps({"data": {"digest": DIGEST}}))
    (run / "exit.json").write_text(json.dumps({"state": "done"}))
    (home.data / DIGEST).mkdir()
    (home.data / DIGEST / "train_x.npy").write_bytes(b"1234567")
    (home.bundles / BUNDLE).write_bytes(b"zip")
    for path in (home.data / DIGEST, home.bundles / BUNDLE):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return home


@pytest.fixture
def child() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes of a test, which end with it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for one in started:
        one.kill()
        one.wait()


def uses(home: StateDir) -> dict[str, str]:
    return {thing["name"]: thing["use"] for thing in cleanup.list_stored(home)}


def remove(home: StateDir, kind: str, name: str) -> str:
    (done,) = cleanup.remove(home, [{"kind": kind, "name": name}])
    return str(done["reason"])


def test_every_stored_item_is_listed_with_its_size_and_state(home: StateDir) -> None:
    found = {thing["name"]: thing for thing in cleanup.list_stored(home)}
    assert set(found) == {RUN, DIGEST, BUNDLE}
    assert (found[RUN]["kind"], found[RUN]["state"], found[DIGEST]["size"], found[BUNDLE]["size"]) == ("runs", "done", 7, 3)
    assert found[BUNDLE]["age"] > 1e8
    assert set(uses(home).values()) == {""}


def test_an_unused_item_is_removed_completely(home: StateDir) -> None:
    things = [{"kind": thing["kind"], "name": thing["name"]} for thing in cleanup.list_stored(home)]
    assert [done["reason"] for done in cleanup.remove(home, things)] == ["", "", ""]
    assert sorted(path.name for path in home.root.rglob("*")) == ["bundles", "data", "runs"]


def test_a_run_whose_runner_holds_its_lock_is_kept_with_its_data(home: StateDir) -> None:
    handle = os.open(home.runs / RUN, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert uses(home)[RUN] == "its runner is alive"
    assert uses(home)[DIGEST] == "a run uses it"
    assert remove(home, "runs", RUN) == "its runner is alive"
    assert remove(home, "data", DIGEST) == "a run uses it"
    os.close(handle)
    assert remove(home, "runs", RUN) == ""
    assert not (home.runs / RUN).exists()


def says_that_it_runs(process: subprocess.Popen[bytes]) -> None:
    """A child is there a moment before the kernel shows what it was started with."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b".")
    process.stdin.flush()
    assert process.stdout.read(1) == b"."


def test_a_run_with_a_process_left_is_kept(home: StateDir, child: list[subprocess.Popen[bytes]]) -> None:
    child.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, RUN_ID_VARIABLE: RUN}))
    says_that_it_runs(child[0])
    assert remove(home, "runs", RUN) == "a process of it is alive"
    assert (home.runs / RUN / "exit.json").exists()


def test_the_bundle_that_a_process_runs_from_is_kept(home: StateDir, child: list[subprocess.Popen[bytes]]) -> None:
    marked = {**os.environ, "PYTHONPATH": str(home.bundles / BUNDLE)}
    child.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=marked))
    says_that_it_runs(child[0])
    assert remove(home, "bundles", BUNDLE) == "programs run from it"
    assert (home.bundles / BUNDLE).exists()


def test_a_fresh_upload_is_kept_for_its_launch(home: StateDir) -> None:
    os.utime(home.data / DIGEST)
    assert remove(home, "data", DIGEST) == "uploaded within the last hour"


def test_symlinks_are_removed_and_their_targets_are_not(home: StateDir, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (home.runs / RUN / "link").symlink_to(outside)
    (home.runs / RUN / "file").symlink_to(outside / "precious")
    (home.runs / "linked").symlink_to(outside)
    (home.data / "ef").symlink_to(outside)
    assert remove(home, "runs", RUN) == ""
    assert remove(home, "runs", "linked") == "unexpected file type: left alone"
    assert (outside / "precious").read_text() == "precious"


def test_a_stored_directory_that_became_a_symlink_is_not_entered(home: StateDir, tmp_path: Path) -> None:
    home.runs.rename(tmp_path / "elsewhere")
    home.runs.symlink_to(tmp_path / "elsewhere")
    assert RUN not in uses(home)
    assert remove(home, "runs", RUN) != ""
    assert (tmp_path / "elsewhere" / RUN / "exit.json").exists()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("runs", ".."),
        ("runs", "../data"),
        ("runs", ""),
        ("runs", f"{RUN}/ranks"),
        ("bundles", "x"),
        ("", RUN),
        ("..", "x"),
        ("data", "a\0"),
    ],
)
def test_an_invalid_name_is_refused_before_anything_is_removed(home: StateDir, kind: str, name: str) -> None:
    with pytest.raises(UsageError, match="not a run, data set or bundle"):
        cleanup.remove(home, [{"kind": "runs", "name": RUN}, {"kind": kind, "name": name}])
    assert (home.runs / RUN).exists()


def test_an_interrupted_removal_is_finished_by_the_next_one(home: StateDir) -> None:
    (home.root / cleanup.TRASH_DIR / "half" / "of").mkdir(parents=True)
    (home.root / cleanup.TRASH_DIR / "half" / "of").chmod(0o500)
    assert cleanup.remove(home, []) == []
    assert not (home.root / cleanup.TRASH_DIR).exists()


# At the centre -----------------------------------------------------------------------------------------------------------------


def thing(kind: str, name: str, age_days: float = 10.0, use: str = "") -> dict[str, Any]:
    return {"kind": kind, "name": name, "size": 5, "age": age_days * 86400.0, "use": use}


THINGS = [thing("runs", "old"), thing("runs", "new", 1.0), thing("runs", "going", 10.0, "its runner is alive"), thing("data", "d")]


def chosen(wish: CleanRequest, missing: str = "") -> dict[str, str]:
    return {row["name"]: row["state"] for row in classify_items(wish, THINGS, lambda run_id: missing)}


def test_without_options_every_unused_item_is_removable() -> None:
    assert chosen(CleanRequest()) == {"old": "removable", "new": "removable", "going": "kept", "d": "removable"}


def test_kinds_ages_and_names_narrow_it_down() -> None:
    assert chosen(CleanRequest(kinds=("data",))) == {"d": "removable"}
    assert chosen(CleanRequest(older_than=5.0)) == {"old": "removable", "going": "kept", "d": "removable"}
    assert chosen(CleanRequest(runs=("new",), kinds=("runs",))) == {"new": "removable"}
    assert chosen(CleanRequest(runs=("new",), kinds=("data",))) == {"new": "removable", "d": "removable"}


def test_a_run_that_is_not_copied_is_kept_with_a_reason_unless_all_is_given() -> None:
    assert chosen(CleanRequest(kinds=("runs",)), "not copied") == {"old": "kept", "new": "kept", "going": "kept"}
    assert chosen(CleanRequest(kinds=("runs",), is_all=True), "not copied") == {
        "old": "removable",
        "new": "removable",
        "going": "kept",
    }


def test_a_run_is_here_when_its_result_copies_and_fetched_files_are(tmp_path: Path) -> None:
    entry = {"kind": "file", "size": 3, "mtime_ns": 0}
    listing = {"entries": [entry | {"name": "out.log"}, entry | {"name": "model.pt"}, entry | {"name": "lease.json"}]}
    here = tmp_path / RUN
    steps = [here / "result.json", here / "nodes" / "n0" / "out.log", here / "files" / "n0" / "model.pt"]
    told = []
    for path in steps:
        told.append(missing_copy_reason(tmp_path, RUN, "n0", listing))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"123")
    assert [words.partition(":")[0] for words in told] == ["not copied", "out.log is not here", "model.pt is not here"]
    assert missing_copy_reason(tmp_path, RUN, "n0", listing) == ""
    steps[-1].write_bytes(b"12")
    assert "model.pt is not here" in missing_copy_reason(tmp_path, RUN, "n0", listing)


def as_fleet(fleet: Any) -> Any:
    """A stand-in for a fleet, which types do not check."""
    return fleet


class Nodes:
    """A fleet of one node that answers with the agent's own functions."""

    node = "n0"

    def __init__(self, home: StateDir) -> None:
        self._home = home

    async def link(self, name: str, patience: float) -> Nodes:
        return self

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        return await REQUESTS[word](self._home, body, lambda frame: asyncio.sleep(0))


async def test_nothing_goes_before_a_person_has_agreed(home: StateDir, tmp_path: Path) -> None:
    wish = CleanRequest(is_all=True)
    shown = await clean(wish, as_fleet(Nodes(home)), nodes=["n0"], runs=tmp_path)
    assert {thing["state"] for thing in shown["things"]} == {"removable"}
    assert (shown["removed"], shown["bytes"]) == (False, sum(thing["size"] for thing in shown["things"]))
    assert len(cleanup.list_stored(home)) == 3
    done = await clean(wish, as_fleet(Nodes(home)), nodes=["n0"], runs=tmp_path, is_agreed=True)
    assert ({thing["state"] for thing in done["things"]}, done["bytes"]) == ({"removed"}, shown["bytes"])
    assert cleanup.list_stored(home) == []


async def test_a_node_that_is_read_only_keeps_everything(home: StateDir, tmp_path: Path) -> None:
    done = await clean(
        CleanRequest(is_all=True), as_fleet(Nodes(home)), nodes=["n0"], runs=tmp_path, is_agreed=True, read_only=["n0"]
    )
    assert {thing["state"] for thing in done["things"]} == {"kept"}
    assert (done["bytes"], len(cleanup.list_stored(home))) == (0, 3)


async def test_a_node_that_lies_or_fails_spoils_nothing_but_its_own_part(home: StateDir, tmp_path: Path) -> None:
    random_numbers = random.Random(20261121)
    before = {str(path) for path in tmp_path.rglob("*")}
    for _ in range(500):
        done = await clean(
            CleanRequest(is_all=random_numbers.random() < 0.5),
            as_fleet(Liar(random_numbers)),
            nodes=["n0"],
            runs=tmp_path,
            is_agreed=True,
        )
        assert done["nodes"][0]["state"] in ("ok", "failed", "lost")
        assert all(thing["kind"] in CLEAN_KINDS and thing["size"] >= 0 for thing in done["things"])
        assert render(done)
    assert {str(path) for path in tmp_path.rglob("*")} == before


class Liar:
    """A fleet of one node that says anything of what it keeps."""

    node = "n0"

    def __init__(self, random_numbers: random.Random) -> None:
        self._random = random_numbers

    async def link(self, name: str, patience: float) -> Liar:
        return self

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        if self._random.random() < 0.1:
            raise self._random.choice((WorkFailed("x", node="n0"), NodeUnreachable("x", node="n0")))
        things = [thing("runs", RUN), thing("data", "../x"), thing("bundles", "b")]
        listed = [{"name": self._random.choice(NAMES), "kind": "file", "size": 1, "mtime_ns": 1}]
        return dict(mutated({"things": things, "entries": listed, "is_cut": False}, self._random))


async def test_a_run_that_no_node_has_is_a_usage_error(home: StateDir, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run 'other'"):
        await clean(CleanRequest(runs=("other",)), as_fleet(Nodes(home)), nodes=["n0"], runs=tmp_path, is_agreed=True)


@pytest.mark.slow
def test_the_command_only_lists_until_yes_is_given(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(EMBEDDED)
    run = tmp_path / "logs" / "nodes" / "demo1" / "runs" / RUN
    run.mkdir(parents=True)
    for name in ("spec.json", "exit.json"):
        (run / name).write_text('{"state": "done"}')
    told = paceline("--batch", "clean", RUN, "--all", cwd=tmp_path)
    assert (told.returncode, run.exists()) == (0, True)
    assert "would be removed; with --yes it is" in told.stdout
    done = paceline("--batch", "clean", RUN, "--all", "--yes", cwd=tmp_path)
    assert (done.returncode, run.exists()) == (0, False)
    gone = paceline("--batch", "fetch", RUN, cwd=tmp_path)
    assert (gone.returncode, gone.stdout) == (2, "")
    assert f"no run '{RUN}'" in gone.stderr
