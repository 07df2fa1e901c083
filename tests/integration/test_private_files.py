"""A real run under the most careless umask: every file is its owner's alone, and no secret stands where it could be read."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.control import Control
from paceline.engine.inventory.nodes_file import read_inventory
from paceline.engine.jobs.doors.certificates import Certificates, make_certificates
from paceline.engine.jobs.launch import submit
from paceline.engine.jobs.runs.clean import CleanRequest
from paceline.engine.specs import TrainSpec
from paceline.tui.command_line.narration import Narrator
from paceline.tui.command_line.render import render

from tests.support.screens.documents import documented, paths

CANARIES = {"env": "canary-in-the-environment-4711", "key": "cafecafe4711cafecafe4711"}
NODES = "".join(
    f'[[node]]\nname = "n{i}"\nkind = "embedded"\nenv = {{ LAB_TOKEN = "{CANARIES["env"]}" }}\n'
    f'devices = [{{ name = "device {i}", speed = 50.0, memory = "4GiB" }}]\n'
    for i in range(2)
)


LOOK_S = 0.05
"""Seconds between two looks at all arguments: each look costs milliseconds."""


class Watch:
    """Looks at the arguments of every process there is, again and again, for what must not stand there."""

    def __init__(self, words: list[bytes]) -> None:
        self.looks = 0
        self.found: set[bytes] = set()
        self._words = words
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_S):
            self.looks += 1
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    said = path.read_bytes()
                except OSError:
                    continue
                self.found |= {word for word in self._words if word in said}


@pytest.fixture
def careless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lab whose person has a home of their own and no umask at all."""
    (tmp_path / "nodes.toml").write_text(NODES)
    monkeypatch.setenv("HOME", str(tmp_path))

    def marked(run_id: str, nodes: Iterable[str]) -> dict[str, Certificates]:
        """Certificates whose keys hold a word that can be looked for; OpenSSL skips what stands before the first line of dashes."""
        return {name: {**own, "key": f"{CANARIES['key']}\n{own['key']}"} for name, own in make_certificates(run_id, nodes).items()}

    monkeypatch.setattr(submit, "make_certificates", marked)
    before = os.umask(0)
    yield tmp_path
    os.umask(before)


async def session(directory: Path) -> dict[str, Any]:
    """Train, look, fetch and clean, as a person would; every document and word of it."""
    narration = io.StringIO()
    control = Control(read_inventory(directory / "nodes.toml"), record=directory / "session.jsonl")
    narrator = Narrator(narration, control.subscribe)
    try:
        await control.open()
        trained = await control.run(TrainSpec(epochs=1, global_batch_size=256, checkpoint_every="never"))
        run_id = trained["run_id"]
        (directory / "logs/nodes/n0/runs" / run_id / "model.pt").write_bytes(b"weights")
        documents = {
            "train": trained,
            "jobs": await control.jobs(),
            "keep": await control.clean(CleanRequest(), is_agreed=True),
            "fetch": await control.fetch(run_id, (), None),
            "look": await control.clean(CleanRequest(kinds=("runs",)), is_agreed=False),
            "clean": await control.clean(CleanRequest(runs=(run_id,), kinds=("runs",)), is_agreed=True),
        }
    finally:
        narrator.close()
        await control.close()
    return {**documents, "said": narration.getvalue()}


@pytest.mark.slow  # test_supervisor.py looks at the modes of private files
def test_a_run_keeps_its_files_to_itself_and_its_secrets_to_nobody(careless: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Watch([word.encode() for word in CANARIES.values()]) as watch:
        documents = asyncio.run(session(careless))
    run_id = documents["train"]["run_id"]

    # What was asked was done: the run was kept until all of it was here, then it went.
    assert documents["train"]["state"] == "done"
    kept = {thing["node"]: thing for thing in documents["keep"]["things"] if thing["kind"] == "runs"}
    assert (kept["n0"]["state"], kept["n1"]["state"]) == ("kept", "removed")
    assert f"model.pt is not here: paceline fetch {run_id}" in kept["n0"]["reason"]
    assert [(file["name"], file["state"]) for file in documents["fetch"]["files"]] == [("model.pt", "fetched")]
    assert (careless / "logs/runs" / run_id / "files/n0/model.pt").read_bytes() == b"weights"
    assert [thing["state"] for thing in documents["look"]["things"]] == ["removable"]
    assert [thing["state"] for thing in documents["clean"]["things"]] == ["removed"]
    assert not (careless / "logs/nodes/n0/runs" / run_id).exists()
    for verb in ("fetch", "clean"):
        assert paths({"schema": 1, **documents[verb]}) == documented(verb)
        assert run_id in render(documents[verb])

    # Nobody else can look.
    ours = [path for path in careless.rglob("*") if path.name != "nodes.toml" and not path.is_symlink()]
    assert {"result.json", "report.md", "events.jsonl", "session.jsonl", "out.log", "manifest.json"} <= {path.name for path in ours}
    open_to_others = [
        str(path.relative_to(careless)) for path in ours if path.stat().st_mode & 0o077 and not stat.S_ISSOCK(path.stat().st_mode)
    ]
    assert open_to_others == []

    # And what is secret stands nowhere.
    assert watch.looks > 20
    assert watch.found == set()
    out, err = capfd.readouterr()
    for name, word in CANARIES.items():
        holding = [str(path) for path in ours if path.is_file() and word.encode() in path.read_bytes()]
        assert holding == [], name
        assert word not in out + err + documents["said"] + str({key: value for key, value in documents.items() if key != "said"})
    print(f"canaries: {len(CANARIES)}, files: {len(ours)}, looks at all arguments: {watch.looks}, found: 0")
