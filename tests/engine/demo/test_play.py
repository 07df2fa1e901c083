"""Playing a demo session: moments come once, captions are events, a power cut kills all of a node and nothing else."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from paceline.engine.demo.play import Cues, play
from paceline.engine.demo.portable import portable_in, recorded
from paceline.engine.demo.power import kill_node
from paceline.engine.demo.script_file import Act, DemoScript, Moment
from paceline.engine.demo.sessions import SESSION_FILE
from paceline.engine.errors import WorkFailed
from paceline.engine.events import (
    Captioned,
    CaseStarted,
    Event,
    HostProcess,
    HostReading,
    InventoryRead,
    NodeConnected,
    NodeLost,
    NodeReported,
    StepsTaken,
    Warned,
)
from paceline.engine.reports.document_type import Document
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import Caption, State
from paceline.engine.telemetry.bus import Bus


class Played:
    """A control centre without nodes: events go to its listeners, deeds are written down."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.told: list[Event] = []
        self.deeds: list[str] = []
        self._bus = Bus(lambda: 0.0)
        self._bus.subscribe(self.told.append)

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        return self._bus.subscribe(listener)

    def publish(self, event: Event) -> None:
        self._bus.publish(event)

    def node_root(self, name: str) -> Path:
        return self.runs.parent / "nodes" / name

    async def cut_power(self, name: str) -> None:
        self.deeds.append(f"cut {name}")

    def restore_power(self, name: str) -> None:
        self.deeds.append(f"restored {name}")

    @property
    def captions(self) -> list[str]:
        return [event.text for event in self.told if isinstance(event, Captioned)]


@pytest.fixture
def stage(tmp_path: Path) -> Played:
    return Played(tmp_path / "lab" / "logs" / "runs")


def test_a_moment_comes_once_at_the_event_that_it_describes(seed: int) -> None:
    moments = (
        Moment("StepsTaken", {"rank": 0}, {"step": 40}, say="forty"),
        Moment("CaseStarted", of=2, say="the second"),
        Moment("NodeLost", {"node": "b"}, say="b is lost"),
    )
    events: list[Event] = [
        *(StepsTaken(step=step, rank=rank) for step in (0, 39, 40, 41) for rank in (0, 1)),
        *(CaseStarted(case=case) for case in "xyz"),
        *(NodeLost(node=node) for node in "abab"),
    ]
    chance = random.Random(seed)
    for _ in range(20):
        chance.shuffle(events)
        cues = Cues(moments)
        came = [(moment.say, event) for event in events for moment in cues.due(event)]
        firsts = {
            "forty": next(one for one in events if isinstance(one, StepsTaken) and one.step >= 40 and one.rank == 0),
            "the second": [one for one in events if isinstance(one, CaseStarted)][1],
            "b is lost": next(one for one in events if isinstance(one, NodeLost) and one.node == "b"),
        }
        assert sorted(name for name, _ in came) == sorted(firsts)
        assert all(firsts[name] is event for name, event in came)


async def test_acts_follow_each_other_and_captions_say_values_of_events_and_documents(stage: Played) -> None:
    lines = []

    async def perform(line: str) -> Document:
        lines.append(line)
        stage.publish(StepsTaken(step=50, rank=0, node="n1"))
        await asyncio.sleep(0)
        return {"type": "train", "rate": 12.5}

    script = DemoScript(
        "a title",
        (Act("profile", say="first"), Act("train {lab}/x.py", then="{rate:.1f} samples/s", then_look="results")),
        (Moment("StepsTaken", reach={"step": 50}, say="step {step} of {node}", lose="n1"),),
    )
    document = await play(script, stage, perform, spacing=0.0)
    assert document == {"type": "train", "rate": 12.5}
    assert lines == ["profile", f"train {stage.runs.parents[1]}/x.py"]
    assert stage.captions == ["first", "step 50 of n1", "12.5 samples/s"]
    assert stage.deeds == ["cut n1"]
    state = State()
    for event in stage.told:
        state = reduce(state, event)
    assert state.caption == Caption("12.5 samples/s", "results")
    before = len(stage.told)
    stage.publish(StepsTaken(step=90))
    assert len(stage.told) == before + 1, "the session is over"


async def test_an_act_that_fails_ends_the_session_with_its_error_and_leaves_no_task(stage: Played) -> None:
    async def perform(line: str) -> Document:
        raise WorkFailed("no devices")

    with pytest.raises(WorkFailed, match="no devices"):
        await play(DemoScript("x", (Act("train", say="never mind"), Act("train"))), stage, perform, spacing=60.0)
    assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


def test_a_power_cut_kills_what_names_the_node_and_nothing_else(tmp_path: Path) -> None:
    cut, other = tmp_path / "n1", tmp_path / "n10"
    sleeps = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]

    def start(*words: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*sleeps, *words], env=env, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()  # it has its own arguments and environment by now
        return process

    victims = [start(str(cut)), start(f"{cut}/runs/r1"), start("x", env={"PACELINE_ROOT": str(cut)})]
    spared = [start(str(other)), start("x", env={"PACELINE_ROOT": str(other)})]
    try:
        assert kill_node(cut) == 3
        assert [process.wait() for process in victims] == [-signal.SIGKILL] * 3
        assert [process.poll() for process in spared] == [None, None]
    finally:
        for process in (*victims, *spared):
            process.kill()
            process.communicate()


def test_the_recording_of_a_demo_names_no_machine_and_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "eve"
    monkeypatch.setenv("HOME", str(home))
    lab = home / "paceline" / "logs" / "demo" / "loss"
    make = portable_in(lab)
    read = make(InventoryRead(path=str(lab / "nodes.toml"), lab="loss"))
    assert isinstance(read, InventoryRead)
    assert read.path == "loss/nodes.toml"
    assert make(Warned(reason=f"no room in {home}/x and {lab}/data")) == Warned(reason="no room in ~/x and loss/data")
    connected = make(NodeConnected(node="a", hostname="eves-laptop", boot_id="77", python="3.12", pid_namespace="4"))
    assert connected == NodeConnected(node="a", hostname="lab", python="3.12")
    processes = (HostProcess(1, "eve", "mail"), HostProcess(2, "eve", "python", run_id="r1"))
    reported = make(NodeReported(node="a", host=HostReading(load=1.0, processes=processes)))
    assert reported == NodeReported(node="a", host=HostReading(load=1.0, processes=(HostProcess(2, "lab", "python", run_id="r1"),)))
    same = Warned(reason="nothing to hide")
    assert make(same) is same


def test_only_the_lab_of_a_demo_session_is_made_portable(tmp_path: Path) -> None:
    heard: list[Event] = []
    assert recorded(heard.append, tmp_path) == heard.append
    (tmp_path / SESSION_FILE).write_text("")
    recorded(heard.append, tmp_path)(Warned(reason=f"in {tmp_path}"))
    assert heard == [Warned(reason=f"in {tmp_path.name}")]
