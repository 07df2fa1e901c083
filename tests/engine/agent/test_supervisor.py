"""The supervisor of a run: one run on several nodes whose ranks, runners and peers fail or are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.runner import failure_cause
from paceline.engine.agent.runner.local_service import ask_runner
from paceline.engine.agent.runs import artifacts
from paceline.engine.agent.runs.run_dir import runner_is_alive
from paceline.engine.agent.runs.tail import TailStream
from paceline.engine.agent.system.oom import OomKills
from paceline.engine.agent.system.processes import pids_of_run
from paceline.engine.errors import StorageFailed, UsageError, WorkFailed
from paceline.engine.events import RankFailed, RunnerEnded, StrangersRefused
from paceline.engine.jobs.doors.certificates import make_certificates
from paceline.engine.protocol.json_files import read_json
from paceline.engine.protocol.run_files import PRIVATE_DIR
from paceline.engine.protocol.runner_socket import PLACE_FILE
from paceline.engine.wire import decode, encode

from tests.support.listeners import listening_ports
from tests.support.runs.runners import RUN, STAYS, Lab
from tests.support.waiting import loop_turns, until

FAILED = encode(RankFailed(rank=1, reason="CUDA out of memory")).replace('"', '\\"')
COLLATERAL = encode(RankFailed(rank=0, reason="Connection closed by peer", is_collateral=True)).replace('"', '\\"')


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Callable[..., Lab]]:
    labs: list[Lab] = []

    def build(*scripts: str) -> Lab:
        labs.append(Lab(tmp_path, list(scripts)))
        return labs[-1]

    yield build
    for started in labs:
        await started.end()


async def test_a_run_that_ends_well_is_done_on_every_node(lab: Callable[..., Lab]) -> None:
    two = lab("echo hello", "echo hello")
    await two.start()
    for node in (0, 1):
        assert (await two.until(node, "exit.json"))["state"] == "done"
        assert (two.run(node) / "out.log").read_text() == "hello\n"


async def test_no_node_takes_the_end_of_another_for_a_loss(lab: Callable[..., Lab]) -> None:
    three = lab("exit 0", "sleep 0.3", "exit 0")
    await three.start()
    for node in range(3):
        await three.until(node, "exit.json")
    await three.end()
    assert all("PeerLost" not in (three.run(node) / "events.jsonl").read_text() for node in range(3))


async def test_exit_json_is_written_last_and_repeats_the_last_event(lab: Callable[..., Lab]) -> None:
    one = lab("exit 0")
    await one.start()
    ended = await one.until(0, "exit.json")
    event = decode((one.run(0) / "events.jsonl").read_text().splitlines()[-1])
    assert isinstance(event, RunnerEnded)
    assert (event.state, event.reason) == (ended["state"], ended["reason"])


async def test_ranks_of_all_nodes_use_one_store(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, STAYS)
    await two.start()
    for node in (0, 1):
        await two.until_text(node, "events.jsonl", "LaunchStarted")
    waiting = asyncio.ensure_future(ask_runner(two.run(1), {"ask": "get", "keys": ["a"], "timeout": 60}, 90))
    await ask_runner(two.run(0), {"ask": "set", "pairs": {"a": "AAA="}}, 60)
    assert (await waiting)["value"] == ["AAA="]
    assert (await ask_runner(two.run(1), {"ask": "add", "key": "n", "amount": 2}, 60))["value"] == 2
    assert (await ask_runner(two.run(0), {"ask": "add", "key": "n", "amount": 2}, 60))["value"] == 4


async def test_a_rank_that_waits_for_the_store_of_a_killed_runner_is_told(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, STAYS)
    await two.start()
    await two.until_text(1, "events.jsonl", "LaunchStarted")
    waiting = asyncio.ensure_future(ask_runner(two.run(1), {"ask": "wait", "keys": ["never"], "timeout": 600}, 900))
    await loop_turns()
    os.kill(two.pid(0), signal.SIGKILL)
    try:
        answer = await waiting
    except (OSError, ValueError):  # its own runner has ended meanwhile
        return
    assert (answer["kind"], "n0 is gone" in answer["error"]) == ("lost", True)


async def test_a_run_is_done_once_all_its_ranks_have_finished_whatever_the_goodbye(lab: Callable[..., Lab]) -> None:
    two = lab("while [ ! -e $RUN/go ]; do sleep 0.05; done; exit 1", "while [ ! -e $RUN/go ]; do sleep 0.05; done; exec sleep 600")
    await two.start()
    for node in (0, 1):
        await two.until_text(node, "events.jsonl", "LaunchStarted")
    finished = (ask_runner(two.run(node), {"ask": "finish", "rank": node, "timeout": 60}, 90) for node in (0, 1))
    assert [answer["value"] for answer in await asyncio.gather(*finished)] == [None, None]
    for node in (1, 0):
        (two.run(node) / "go").touch()
    assert (await two.until(0, "exit.json"))["state"] == "done"
    for pid in pids_of_run(RUN, two.homes[1].root):
        os.kill(pid, signal.SIGKILL)
    assert (await two.until(1, "exit.json"))["state"] == "done"


async def test_one_rank_that_has_finished_is_not_the_run(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, "while [ ! -e $RUN/go ]; do sleep 0.05; done; exit 1")
    await two.start()
    await two.until_text(1, "events.jsonl", "LaunchStarted")
    answer = await ask_runner(two.run(1), {"ask": "finish", "rank": 1, "timeout": 0}, 60)
    assert answer["error"] == "timed out after 0 s: rank 0 did not end its last case"
    (two.run(1) / "go").touch()
    assert (await two.until(0, "exit.json"))["state"] == "failed"


async def test_a_peer_that_cannot_be_reached_is_named(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, STAYS)
    port = (await two.launch(1))["port"]
    with socket.create_server(("127.0.0.1", 0)) as gone:
        peers = {"n0": ["127.0.0.1", gone.getsockname()[1]], "n1": ["127.0.0.1", port]}
    await two.ask(1, "connect_peers", run_id=RUN, peers=peers)
    assert "no connection with the runner of n0 at 127.0.0.1: Connection refused" in (await two.until(1, "exit.json"))["reason"]


async def test_launching_twice_starts_once(lab: Callable[..., Lab]) -> None:
    one = lab(STAYS)
    assert await one.launch(0) == await one.launch(0)


async def test_the_same_run_id_with_another_spec_is_refused(lab: Callable[..., Lab]) -> None:
    one = lab(STAYS)
    await one.launch(0)
    with pytest.raises(UsageError, match="already exists with another spec"):
        await one.launch(0, spec={"workload": "another"})


async def test_a_failing_rank_ends_the_other_nodes_and_is_named_everywhere(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, f'echo "{FAILED}" > $RUN/ranks/1.jsonl; exit 1')
    await two.start()
    for node in (0, 1):
        ended = await two.until(node, "exit.json")
        assert (ended["state"], ended["rank"], ended["failed_node"]) == ("failed", 1, "n1")
        assert ended["reason"] == "rank 1 on n1 (device 1): CUDA out of memory"
    assert pids_of_run(RUN, two.homes[0].root) == []


async def test_a_rank_that_only_saw_its_peer_vanish_is_not_blamed(lab: Callable[..., Lab]) -> None:
    two = lab(f'echo "{COLLATERAL}" > $RUN/ranks/0.jsonl; exit 1', f'sleep 0.5; echo "{FAILED}" > $RUN/ranks/1.jsonl; exit 1')
    await two.start()
    assert (await two.until(0, "exit.json"))["rank"] == 1


@pytest.mark.slow  # the other runner learns it over the mesh, in its own time
async def test_a_stopped_rank_is_told_within_the_heartbeat_and_is_the_cause_of_the_collectives_that_break(
    lab: Callable[..., Lab],
) -> None:
    broken = f'while [ ! -e $RUN/go ]; do sleep 0.05; done; echo "{COLLATERAL}" > $RUN/ranks/0.jsonl; exit 1'
    two = lab(broken, STAYS)
    await two.start()
    await two.until_text(1, "events.jsonl", "LaunchStarted")
    sleeper = await asyncio.create_subprocess_exec("sleep", "600")
    os.kill(sleeper.pid, signal.SIGSTOP)
    await ask_runner(two.run(1), {"ask": "beat", "rank": 1, "pid": sleeper.pid}, 60)
    await two.until_text(1, "events.jsonl", "PeerSilent")
    (two.run(0) / "go").touch()
    for node in (0, 1):
        ended = await two.until(node, "exit.json")
        assert (ended["state"], ended["rank"], ended["failed_node"]) == ("failed", 1, "n1")
        assert "rank 1 on n1 (device 1): its process is stopped by a signal, silent for" in ended["reason"]
    sleeper.kill()
    await sleeper.wait()


async def test_a_killed_rank_is_reported_with_its_signal(lab: Callable[..., Lab]) -> None:
    report = "rank      : 0 (local_rank: 0)\\n  exitcode  : -9 (pid: 12)"
    two = lab(STAYS, f'printf "{report}\\n"; exit 1')
    await two.start()
    assert (await two.until(0, "exit.json"))["reason"] == "rank 1 on n1 (device 1): killed by SIGKILL"


async def test_a_rank_that_dies_before_it_writes_an_event_is_reported_with_its_last_output(lab: Callable[..., Lab]) -> None:
    output = "ModuleNotFoundError: No module named numpy"
    report = "E1121 01:07:14.3 20 torch/distributed/elastic/x.py:1] failed\\nrank : 0 (local_rank: 0)\\n exitcode : 1\\n see"
    two = lab(STAYS, f'printf "{output}\\n{report}\\n"; exit 1')
    await two.start()
    ended = await two.until(0, "exit.json")
    assert (ended["rank"], ended["reason"]) == (1, f"rank 1 on n1 (device 1): exit status 1: {output}")


async def test_a_full_disk_is_named_although_no_rank_could_write_it(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = lab(STAYS)
    monkeypatch.setattr(failure_cause, "disk_free", lambda path: 0)
    outcome = failure_cause.local_outcome(one.run(0), one.plan, one.plan.nodes[0], 1, OomKills())
    assert outcome.reason == f"torchrun on n0: exit status 1: no space left for {one.run(0)}"


async def test_a_killed_runner_ends_the_run_on_the_other_nodes_and_leaves_no_orphan(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, STAYS)
    await two.start()
    await two.until_text(1, "events.jsonl", "LaunchStarted")
    await two.until_text(0, "events.jsonl", "LaunchStarted")
    os.kill(two.pid(1), signal.SIGKILL)
    ended = await two.until(0, "exit.json")
    assert (ended["state"], ended["rank"], ended["failed_node"]) == ("failed", 1, "n1")
    assert "rank 1 on n1 is gone" in ended["reason"]
    await two.ask(1, "cancel", run_id=RUN)
    assert pids_of_run(RUN, two.homes[1].root) == []


async def test_cancel_ends_children_that_ignore_term_or_left_their_session(lab: Callable[..., Lab]) -> None:
    stubborn = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 600' & (sleep 600 &) ; while true; do sleep 600; done"
    one = lab(stubborn)
    await one.start()
    await until(lambda: len(pids_of_run(RUN, one.homes[0].root)) >= 4)
    answer = await one.ask(0, "cancel", run_id=RUN)
    assert answer == {"is_known": True, "survivors": []}
    assert (await one.until(0, "exit.json"))["state"] == "cancelled"
    assert pids_of_run(RUN, one.homes[0].root) == []


async def test_a_runner_without_the_addresses_of_its_peers_starts_nothing(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, STAYS)
    await two.launch(0)
    await two.ask(0, "cancel", run_id=RUN)
    assert "LaunchStarted" not in (two.run(0) / "events.jsonl").read_text()


async def test_a_run_on_one_node_listens_on_no_port(lab: Callable[..., Lab]) -> None:
    one = lab(STAYS)
    assert (await one.launch(0))["port"] == 0
    assert listening_ports(one.pid(0)) == set()


async def test_a_runner_closes_its_port_when_all_peers_are_connected(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, STAYS)
    port = (await two.launch(0))["port"]
    assert listening_ports(two.pid(0)) == {("127.0.0.1", port)}
    await two.start()
    for node in (0, 1):
        await two.until_text(node, "events.jsonl", "LaunchStarted")
        assert listening_ports(two.pid(node)) == set()


async def test_a_stranger_at_the_port_of_a_runner_is_counted_and_told(lab: Callable[..., Lab]) -> None:
    two = lab("exit 0", "exit 0")
    port = (await two.launch(0))["port"]
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b'{"token": "guessed", "node": "n1"}\n')
        writer.close()
    await until(lambda: "StrangersRefused" in (two.run(0) / "events.jsonl").read_text())
    await two.start()
    await two.until(0, "exit.json")
    told = [
        event for line in (two.run(0) / "events.jsonl").read_text().splitlines() if "Strangers" in line and (event := decode(line))
    ]
    assert isinstance(told[0], StrangersRefused)
    assert (told[0].count, told[0].address) == (1, "127.0.0.1")
    assert isinstance(told[-1], StrangersRefused)
    assert told[-1].count == 3


async def test_a_runner_without_a_usable_certificate_starts_nothing(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, STAYS)
    wrong = make_certificates(RUN, ["n0"])["n0"] | {"key": make_certificates(RUN, ["n0"])["n0"]["key"]}
    for certificates in ({}, wrong, {**wrong, "authority": "none"}):
        with pytest.raises(WorkFailed, match="the certificate of this run cannot be used"):
            await two.launch(0, certificates=certificates)
        assert not two.run(0).exists()


async def test_nothing_private_is_left_when_a_run_has_ended_or_its_runner_was_killed(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, STAYS)
    await two.start()
    assert [path.name for path in two.run(0).rglob("key.pem")] == []  # OpenSSL has read it
    assert stat.S_IMODE((two.run(0) / PRIVATE_DIR).stat().st_mode) == 0o700
    place = (two.run(0) / PRIVATE_DIR / PLACE_FILE).read_text()
    assert stat.S_IMODE(Path(place).parent.stat().st_mode) == 0o700
    listed = artifacts.list_files(two.run(0))["entries"]
    assert [entry["name"] for entry in listed if PRIVATE_DIR in entry["name"]] == []
    for name in (f"{PRIVATE_DIR}/{PLACE_FILE}", f"{PRIVATE_DIR}/../{PRIVATE_DIR}/{PLACE_FILE}"):
        with pytest.raises(WorkFailed):
            artifacts.read_chunk(two.run(0), name, 0)
    os.kill(two.pid(0), signal.SIGKILL)
    await two.until(1, "exit.json")
    await two.ask(0, "cancel", run_id=RUN)
    for node in (0, 1):
        assert not (two.run(node) / PRIVATE_DIR).exists()
    assert not os.path.lexists(place)


async def test_a_run_directory_that_cannot_be_made_leaves_nothing_and_names_the_reason(lab: Callable[..., Lab]) -> None:
    one = lab(STAYS)
    one.homes[0].runs.write_text("a file where a directory belongs")
    with pytest.raises(StorageFailed, match="cannot write"):
        await one.launch(0)


async def test_a_stream_sends_every_byte_once_and_ends_with_checksums(lab: Callable[..., Lab]) -> None:
    one = lab("seq 20000; exit 0")
    await one.start()
    frames: list[dict[str, Any]] = []
    await one.until(0, "exit.json")

    async def send(frame: dict[str, Any]) -> None:
        frames.append(frame)

    await TailStream(one.run(0), 1, {"out.log": 7}, 1 << 20, send).run()
    log = [frame for frame in frames if frame.get("file") == "out.log"]
    assert log[0]["offset"] == 7
    assert frames[-1]["end"]["out.log"]["length"] == (one.run(0) / "out.log").stat().st_size
    assert read_json(one.run(0) / "exit.json") is not None
    assert frames[-1]["is_gone"] is False


async def test_a_launch_that_is_cancelled_while_it_starts_leaves_no_runner(lab: Callable[..., Lab]) -> None:
    one = lab(STAYS)
    launching = asyncio.ensure_future(one.launch(0))
    await loop_turns()  # the launch has begun, and nothing exists yet
    answer = await one.ask(0, "cancel", run_id=RUN)
    await launching
    assert answer == {"is_known": True, "survivors": []}
    assert not runner_is_alive(one.run(0))
    assert (await one.until(0, "exit.json"))["state"] == "cancelled"


async def test_a_run_that_had_failed_is_not_cancelled_afterwards(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, "exec sleep 600")
    await two.start()
    await two.until_text(0, "events.jsonl", "LaunchStarted")
    await two.until_text(1, "events.jsonl", "LaunchStarted")
    os.kill(two.pid(1), signal.SIGKILL)
    assert (await two.until(0, "exit.json"))["state"] == "failed"
    await until(lambda: not pids_of_run(RUN, two.homes[1].root))
    for node in (0, 1):
        await two.ask(node, "cancel", run_id=RUN)
        assert (await two.until(node, "exit.json"))["state"] == "failed"
