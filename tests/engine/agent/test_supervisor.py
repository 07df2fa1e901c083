"""The supervisor of a run: one run on several nodes whose ranks, runners and peers fail or are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.agent.runner import failure_cause
from paceline.engine.agent.runs.run_dir import runner_is_alive
from paceline.engine.agent.runs.tail import TailStream
from paceline.engine.agent.system.oom import OomKills
from paceline.engine.agent.system.processes import pids_of_run
from paceline.engine.errors import StorageFailed, UsageError
from paceline.engine.events import RankFailed, RunnerEnded
from paceline.engine.protocol.json_files import read_json
from paceline.engine.wire import decode, encode

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


async def test_a_store_address_that_cannot_be_shared_ends_the_run_with_the_reason(lab: Callable[..., Lab]) -> None:
    opened = '{\\"kind\\":\\"StoreOpened\\",\\"address\\":\\"127.0.0.1\\",\\"port\\":1}'
    two = lab(f'mkdir $RUN/store.json; echo "{opened}" > $RUN/ranks/0.jsonl; {STAYS}', STAYS)
    await two.start()
    for node in (0, 1):
        ended = await two.until(node, "exit.json")
        assert (ended["state"], ended["failed_node"]) == ("failed", "n0")
        assert "store.json" in ended["reason"]
        assert pids_of_run(RUN, two.homes[node].root) == []


async def test_a_peer_that_cannot_be_reached_is_named(lab: Callable[..., Lab]) -> None:
    two = lab(STAYS, STAYS)
    port = (await two.launch(1))["port"]
    with socket.create_server(("127.0.0.1", 0)) as gone:
        peers = {"n0": ["127.0.0.1", gone.getsockname()[1]], "n1": ["127.0.0.1", port]}
    await two.ask(1, "connect_peers", run_id=RUN, token="secret", peers=peers)
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


async def test_a_peer_without_the_token_is_refused(lab: Callable[..., Lab]) -> None:
    one = lab(STAYS)
    port = (await one.launch(0))["port"]
    with pytest.raises(Exception, match="does not answer"):
        await one.ask(0, "connect_peers", run_id=RUN, token="wrong", peers={"n0": ["127.0.0.1", port]})


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
