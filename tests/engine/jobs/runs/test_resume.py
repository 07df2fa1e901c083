"""Which checkpoint a run goes on from: the newest sound copy, wherever it is left, and a reason where there is none."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.runs import artifacts
from paceline.engine.errors import NodeUnreachable, UsageError
from paceline.engine.events import CheckpointWritten, Event, Warned
from paceline.engine.jobs.launch.planning import checkpoint_plan
from paceline.engine.jobs.mirror.checkpoint_copies import CheckpointCopies
from paceline.engine.jobs.runs.resume import prepare_resume, refuse_trained, resume_from_file
from paceline.engine.plan import CheckpointPlan
from paceline.engine.protocol.checkpoints import (
    CHECKPOINT_DIR,
    RESUME_FILE,
    CheckpointInfo,
    checkpoint_name,
    digest_of_file,
    list_checkpoints,
    write_info,
)
from paceline.engine.protocol.json_files import write_json
from paceline.engine.specs import ResumeSpec, ScriptSpec, TrainSpec
from paceline.engine.wire import to_plain

from tests.support.waiting import until

RUN = "20260101-0000-abcdef"
SPEC = TrainSpec(workload="digits-cnn", devices="auto", seed=7)


def add_checkpoint(directory: Path, step: int, content: bytes | None = None) -> CheckpointInfo:
    """A file that stands for a checkpoint: here its bytes count, not what torch reads in them."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / checkpoint_name(step)
    path.write_bytes(content or f"weights after {step}".encode())
    size, sha256 = digest_of_file(path)
    info = CheckpointInfo(name=path.name, epoch=step // 10, step=step, size=size, sha256=sha256, written=1.0)
    write_info(directory, info)
    return info


class Node:
    """A node that is a run directory and answers with the agent's own functions."""

    def __init__(self, run: Path) -> None:
        self.run = run
        run.mkdir(parents=True)

    async def ask(self, word: str, **body: Any) -> dict[str, Any]:
        match word:
            case "list_checkpoints":
                return {"checkpoints": [asdict(info) for info in list_checkpoints(self.run / CHECKPOINT_DIR)]}
            case "list_files":
                return artifacts.list_files(self.run)
            case "checksum":
                return artifacts.checksum(self.run, body["name"])
            case _:
                return artifacts.read_chunk(self.run, body["name"], body["offset"])


class Nodes:
    """What resuming needs of a fleet."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self._nodes = nodes

    async def link(self, name: str, patience: float = 0.0) -> Any:
        if name not in self._nodes:
            raise NodeUnreachable("out of reach", node=name)
        return self._nodes[name]


class Lab:
    """Two nodes of an ended run and the centre."""

    def __init__(self, path: Path) -> None:
        self.runs, self.packed = path / "runs", path / "packed"
        self.nodes = {name: Node(path / name / "runs" / RUN) for name in ("n1", "n2")}
        write_json(self.nodes["n1"].run / "spec.json", to_plain(SPEC))
        self.warnings: list[str] = []

    def publish(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.reason)

    async def prepare(self, *connected: str, state: str = "failed", epochs: int | None = None) -> TrainSpec:
        fleet: Any = Nodes({name: self.nodes[name] for name in connected})
        row = {"run_id": RUN, "state": state, "nodes": ["n1", "n2"]}
        return await prepare_resume(
            row, fleet, connected=connected, runs=self.runs, packed=self.packed, publish=self.publish, epochs=epochs
        )


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def test_the_newest_of_all_copies_is_packed_for_the_nodes_of_the_new_run(lab: Lab) -> None:
    add_checkpoint(lab.nodes["n1"].run / CHECKPOINT_DIR, 20)
    newest = add_checkpoint(lab.nodes["n2"].run / CHECKPOINT_DIR, 30)
    spec = await lab.prepare("n1", "n2")
    assert spec.resume is not None
    assert (spec.resume.run_id, spec.resume.step, spec.resume.epoch) == (RUN, 30, 3)
    assert replace(spec, resume=None) == replace(SPEC, devices="all")
    assert (lab.packed / newest.sha256 / RESUME_FILE).read_bytes() == b"weights after 30"
    assert await lab.prepare("n1", "n2") == spec


async def test_a_spoilt_copy_is_told_and_the_other_copy_or_an_older_one_is_taken(lab: Lab) -> None:
    add_checkpoint(lab.nodes["n1"].run / CHECKPOINT_DIR, 10)
    for node in lab.nodes.values():
        add_checkpoint(node.run / CHECKPOINT_DIR, 30)
    spoilt = lab.nodes["n1"].run / CHECKPOINT_DIR / checkpoint_name(30)
    spoilt.write_bytes(b"weights after 31")
    spec = await lab.prepare("n1", "n2")
    assert spec.resume is not None
    assert spec.resume.step == 30
    (lab.nodes["n2"].run / CHECKPOINT_DIR / checkpoint_name(30)).unlink()
    lab.runs.rename(lab.runs.with_name("elsewhere"))
    spec = await lab.prepare("n1", "n2")
    assert spec.resume is not None
    assert spec.resume.step == 10
    assert any("spoilt" in warning for warning in lab.warnings)


async def test_what_was_brought_home_serves_when_no_node_is_left(lab: Lab) -> None:
    copies = lab.runs / RUN / "files" / "n1" / CHECKPOINT_DIR
    add_checkpoint(copies, 40)
    write_json(copies.parents[2] / "spec.json", {})
    nodes = lab.runs / RUN / "nodes" / "n1"
    nodes.mkdir(parents=True)
    write_json(nodes / "spec.json", to_plain(SPEC))
    spec = await lab.prepare()
    assert spec.resume is not None
    assert spec.resume.step == 40


@pytest.mark.parametrize(("state", "reason"), [("running", "only an ended run"), ("done", "left no sound checkpoint")])
async def test_a_run_that_cannot_be_resumed_is_refused_with_the_reason(lab: Lab, state: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        await lab.prepare("n1", state=state)


async def test_a_run_that_has_trained_all_its_epochs_is_refused_unless_more_are_named(lab: Lab, tmp_path: Path) -> None:
    write_json(lab.nodes["n1"].run / "spec.json", to_plain(replace(SPEC, epochs=3)))
    add_checkpoint(lab.nodes["n1"].run / CHECKPOINT_DIR, 30)
    with pytest.raises(UsageError, match=f"run {RUN} has trained 3 epochs of 3: none is left") as refused:
        await lab.prepare("n1", state="done")
    assert refused.value.hint == "--epochs 6 trains as many again"
    assert not lab.packed.exists()
    assert (await lab.prepare("n1", state="done", epochs=4)).resume is not None
    script = ScriptSpec("train.py")
    refuse_trained(ResumeSpec(RUN, 3, 30, "0"), replace(SPEC, script=script, epochs=3))


async def test_a_bench_and_a_run_without_its_job_are_refused(lab: Lab) -> None:
    write_json(lab.nodes["n1"].run / "spec.json", to_plain(replace(SPEC, is_bench=True)))
    with pytest.raises(UsageError, match="is a bench"):
        await lab.prepare("n1")
    (lab.nodes["n1"].run / "spec.json").write_text("[]")
    with pytest.raises(UsageError, match="no copy of the job"):
        await lab.prepare("n1")


async def test_a_node_cannot_name_a_file_elsewhere(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    info = CheckpointInfo(name="../../secret", epoch=0, step=1, size=1, sha256="0", written=0.0)

    async def lie(word: str, **body: Any) -> dict[str, Any]:
        return {"checkpoints": [asdict(info)]} if word == "list_checkpoints" else await Node.ask(lab.nodes["n1"], word, **body)

    monkeypatch.setattr(lab.nodes["n1"], "ask", lie)
    with pytest.raises(UsageError, match="left no sound checkpoint"):
        await lab.prepare("n1")


def test_a_named_file_is_packed_and_a_missing_one_refused(tmp_path: Path) -> None:
    info = add_checkpoint(tmp_path / "mine", 12)
    spec = resume_from_file(tmp_path / "mine" / info.name, tmp_path / "packed")
    assert (spec.run_id, spec.step, spec.digest) == ("", 12, info.sha256)
    with pytest.raises(UsageError, match="No such file"):
        resume_from_file(tmp_path / "nothing.pt", tmp_path / "packed")


def _has_newest(folder: Path, step: int) -> bool:
    return [info.step for info in list_checkpoints(folder)][:1] == [step]


async def test_the_newest_checkpoints_of_a_followed_run_are_brought_home(lab: Lab) -> None:
    fleet: Any = Nodes(lab.nodes)
    told: list[Event] = []
    copies = CheckpointCopies(RUN, fleet, lab.runs / RUN / "files", told.append, min_interval=0.0)
    copying = asyncio.create_task(copies.run())
    folder = lab.runs / RUN / "files" / "n1" / CHECKPOINT_DIR
    try:
        for step in (10, 20, 30, 40):
            info = add_checkpoint(lab.nodes["n1"].run / CHECKPOINT_DIR, step)
            facts: dict[str, Any] = {"epoch": info.epoch, "step": info.step, "size": info.size, "sha256": info.sha256}
            copies.publish(CheckpointWritten(name=info.name, node="n1", rank=0, **facts))
            await until(functools.partial(_has_newest, folder, step))
        info = add_checkpoint(lab.nodes["n2"].run / CHECKPOINT_DIR, 50)  # the first writer is lost
        copies.publish(CheckpointWritten(name=info.name, node="n2", rank=3, step=50, size=info.size, sha256=info.sha256))
        await until(functools.partial(_has_newest, lab.runs / RUN / "files" / "n2" / CHECKPOINT_DIR, 50))
        copies.publish(CheckpointWritten(name="../x.pt", node="n1", rank=0, step=60, size=1, sha256="0"))
        copies.publish(CheckpointWritten(node="n1", rank=0, error="full disk"))
    finally:
        copying.cancel()
        await asyncio.gather(copying, return_exceptions=True)
    assert [info.step for info in list_checkpoints(folder)] == [40, 30]
    assert len(told) == 7


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("never", None),
        ("60 s", CheckpointPlan(every_seconds=60.0)),
        ("1.5min", CheckpointPlan(every_seconds=90.0)),
        ("2 h", CheckpointPlan(every_seconds=7200.0)),
        ("200 steps", CheckpointPlan(every_steps=200)),
        ("1 step", CheckpointPlan(every_steps=1)),
    ],
)
def test_an_interval_is_seconds_minutes_hours_or_steps(text: str, plan: CheckpointPlan | None) -> None:
    assert checkpoint_plan(text) == plan


@pytest.mark.parametrize("text", ["", "60", "0 s", "-1 s", "1.5 steps", "ten s", "1e9 s"])
def test_any_other_interval_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no interval"):
        checkpoint_plan(text)
