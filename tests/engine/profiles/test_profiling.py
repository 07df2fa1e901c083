"""Profiles without a lab: assembly, store, drift, the search for the largest batch, disks, links, documents and alerts."""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.advisor.advise import advise
from paceline.engine.advisor.profile_from_document import profile_from_document
from paceline.engine.errors import StorageFailed, WorkFailed
from paceline.engine.events import (
    AllReduceProfiled,
    DeviceProfiled,
    DriftFound,
    Event,
    GradientProfiled,
    LinkProfiled,
    NodeConnected,
    ProfileStored,
    ProfilingAdvanced,
    RankFailed,
    StepTimesProfiled,
    SystemProfiled,
    Warned,
)
from paceline.engine.jobs.launch.profile_cache import ProfileCache
from paceline.engine.plan import CasePlan, DataPlan, Emulation, NodePlan, Plan, RankPlan
from paceline.engine.profiles.assemble import assemble
from paceline.engine.profiles.drift import find_drifts
from paceline.engine.profiles.store import ProfileStore, StoredProfile, profile_fingerprint
from paceline.engine.reports.advice import advice_document
from paceline.engine.reports.profile import profile_document
from paceline.engine.specs import FaultSpec, LinkSpec
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.wire import decode, encode
from paceline.tui.command_line.render import render
from paceline.tui.views.advice import WhatIfChoice, advice_view, verdict_lines
from paceline.tui.views.profiles import profile_summary, profile_view

from tests.support.screens.documents import documented, paths

NODES = ("lab1", "lab2", "lab3")
RATES = (400.0, 300.0, 100.0)


def plan() -> Plan:
    """Three nodes with an emulated device each."""
    ranks = tuple(
        RankPlan(rank, node, rank, 0, 0, "emulated", f"card {rank}", 4 << 30, Emulation(RATES[rank]))
        for rank, node in enumerate(NODES)
    )
    nodes = tuple(NodePlan(node, rank, (rank,), "127.0.0.1", "lo", "python3") for rank, node in enumerate(NODES))
    data = DataPlan("0" * 16, "test", 1, "0")
    return Plan("r1", "digits-cnn", (CasePlan("hybrid", "hybrid"),), nodes, ranks, data, 1, 96, program="profiling")


def lines(rates: tuple[float, ...] = RATES, clock: str = "5001 MHz") -> list[Event]:
    """What the ranks of that plan would write."""
    found: list[Event] = []
    for rank, (node, rate) in enumerate(zip(NODES, rates, strict=True)):
        sizes = (1, 2, 4, 8)
        seconds = tuple(0.001 + size / rate for size in sizes)
        found += [
            DeviceProfiled(node=node, rank=rank, tflops={"fp32": rate / 100}, facts={"memory clock": clock}),
            StepTimesProfiled(
                node=node,
                rank=rank,
                sizes=sizes,
                seconds=seconds,
                fixed_seconds=0.001,
                seconds_per_sample=1 / rate,
                residual=0.004,
                largest_batch=1000 * (rank + 1),
                crowding=1.25 if rank == 0 else None,
            ),
            SystemProfiled(
                node=node, rank=rank, processor="a cpu", cores=8, memory=1 << 34, disk_write=1e9, facts={"torch": "2.13"}
            ),
        ]
        found += [LinkProfiled(node=node, rank=rank, peer=peer, latency=1e-4, bandwidth=1e8) for peer in NODES if peer != node]
    sums: dict[str, Any] = {"sizes": (1024, 4096), "seconds": (0.002, 0.0021), "alpha": 0.002, "beta": 4e7, "residual": 0.01}
    found.append(AllReduceProfiled(node="lab1", world_size=3, **sums))
    buckets: dict[str, Any] = {"bucket_bytes": (4096, 1024), "closed_at": (0.4, 1.0), "low_rank_bytes": (400, 100)}
    buckets |= {"compression_seconds": {"fp16": (0.001, 0.002), "bf16": (0.001,), "powersgd": (0.1, -0.1)}}  # two are nonsense
    found.append(GradientProfiled(node="lab1", forward_share=0.33, optimizer_seconds=0.001, parameters=1280, **buckets))
    return found


# Assembly -----------------------------------------------------------------------------------------------------------------------


def test_a_profile_does_not_depend_on_the_order_of_events_nor_on_the_wire() -> None:
    events = lines()
    whole = assemble(plan(), events, 5.0)
    for seed in range(20):
        mixed = random.Random(seed).sample(events, len(events))
        again = [decode(encode(event)) for event in mixed]
        assert assemble(plan(), [event for event in again if event], 5.0) == whole
    assert [device.samples_per_second for device in whole.devices] == pytest.approx(RATES)
    assert whole.devices[2].largest_batch == 3000
    assert whole.devices[0].facts == {"torch": "2.13", "memory clock": "5001 MHz"}
    assert whole.all_reduce is not None
    assert whole.gradient is not None
    assert whole.gradient.compression_seconds == {"fp16": (0.001, 0.002)}
    assert [device.crowding for device in whole.devices] == [1.25, None, None]


def test_an_emulated_fault_does_not_change_the_fingerprint_of_a_device() -> None:
    always, later = FaultSpec(at_step=0, slowdown=2.0), FaultSpec(at_step=5, slowdown=2.0)
    assert (always.is_at_work(-1), always.is_at_work(3)) == (True, True)
    assert (later.is_at_work(-1), later.is_at_work(3), later.is_at_work(5)) == (False, False, True)
    ranks = tuple(replace(rank, emulation=Emulation(RATES[rank.rank], (always, later))) for rank in plan().ranks)
    assert profile_fingerprint(replace(plan(), ranks=ranks), "m") == profile_fingerprint(plan(), "m")


def test_a_lost_device_has_an_error_and_the_others_are_profiled() -> None:
    events = [event for event in lines() if not (isinstance(event, DeviceProfiled | StepTimesProfiled) and event.rank == 1)]
    gone = "CUDA error: the device is lost"
    profile = assemble(
        plan(), [*events, DeviceProfiled(node="lab2", rank=1, error=gone), StepTimesProfiled(rank=1, error=gone)], 5.0
    )
    assert [device.error for device in profile.devices] == ["", gone, ""]
    assert [device.step_time is None for device in profile.devices] == [False, True, False]


def test_a_rank_that_died_or_said_nothing_is_named_with_what_it_had_measured() -> None:
    events = [event for event in lines() if not (isinstance(event, StepTimesProfiled) and event.rank == 0)]
    events = [event for event in events if event.node != "lab3"]
    profile = assemble(plan(), [*events, RankFailed(node="lab1", rank=0, reason="killed by SIGKILL")], 5.0)
    assert profile.devices[0].tflops == {"fp32": 4.0}
    assert profile.devices[0].error == "killed by SIGKILL"
    assert profile.devices[2].error == "no measurement arrived"
    assert [(link.source, bool(link.error)) for link in profile.links][-2:] == [("lab3", True), ("lab3", True)]


@pytest.mark.parametrize(
    "nonsense",
    [
        StepTimesProfiled(rank=0, sizes=(1, 2), seconds=(0.1,), fixed_seconds=0.0, seconds_per_sample=0.1),
        StepTimesProfiled(rank=0, sizes=(1,), seconds=(0.1,), fixed_seconds=-1.0, seconds_per_sample=0.1),
        StepTimesProfiled(rank=0, sizes=(1,), seconds=(0.0,), fixed_seconds=0.0, seconds_per_sample=0.0),
        AllReduceProfiled(world_size=1, alpha=0.1, beta=1.0),
        AllReduceProfiled(world_size=3, alpha=-0.1, beta=1.0),
        GradientProfiled(bucket_bytes=(1, 2), closed_at=(0.5,), forward_share=0.3),
        GradientProfiled(bucket_bytes=(1,), closed_at=(0.5,), forward_share=1.5),
        LinkProfiled(node="lab1", peer="lab2", latency=-1.0, bandwidth=0.0),
        DeviceProfiled(rank=0, tflops={"fp32": -3.0}, memory_bandwidth=-1.0),
    ],
)
def test_impossible_measurements_are_unknown(nonsense: Event) -> None:
    profile = assemble(plan(), [nonsense], 5.0)
    assert profile.devices[0].step_time is None
    assert profile.devices[0].tflops == {}
    assert profile.all_reduce is None
    assert profile.gradient is None
    assert profile.links[0].latency is None
    render(profile_document(profile))


# Document -----------------------------------------------------------------------------------------------------------------------


def test_the_document_has_the_documented_fields() -> None:
    before, now = assemble(plan(), lines(), 5.0), assemble(plan(), lines((300.0, 300.0, 100.0)), 6.0)
    fields = profile_document(now, find_drifts(before, now))
    ended = {"run_id": "r1", "state": "done", "reason": None, "failed_rank": None, "failed_node": None}
    document = {"schema": 1, **fields, **ended}
    assert paths(json.loads(json.dumps(document))) - {"devices[].drift"} == documented("profile") - {"devices[].drift"}
    assert [device["score"] for device in document["devices"]] == pytest.approx([1.0, 1.0, 1 / 3])


def test_what_was_measured_through_a_played_network_says_so_wherever_it_is_shown() -> None:
    document = profile_document(assemble(replace(plan(), link=LinkSpec(0.002, 1e8)), lines(), 5.0))
    assert document["emulated_network"] is True
    assert "digits-cnn on 3 devices, emulated (network too)" in render(document)
    again = profile_from_document(document)
    assert again is not None
    advice = advice_document(again, advise(again, 96))
    assert advice["emulated_network"] is True
    assert "global batch of 96, emulated (network too)" in render(advice)
    state = reduce(State(), ProfileStored(document=document))
    screens = (
        profile_summary(state, profile_view(document), 1, 120),
        verdict_lines(advice_view(document, WhatIfChoice()), 1, 120, 9),
    )
    for lines_of in screens:
        assert any("emulated, network too" in strip.text for strip in lines_of)


def test_names_of_hostile_nodes_cannot_act_on_a_terminal() -> None:
    evil = "\x1b[31mlab\x07\u202e"
    profile = assemble(plan(), lines(), 5.0)
    devices = tuple(replace(device, node=evil, name=evil, error=evil, facts={evil: evil}) for device in profile.devices)
    links = tuple(replace(link, source=evil, target=evil, error=evil) for link in profile.links)
    systems = tuple(replace(system, node=evil, processor=evil, error=evil) for system in profile.systems)
    text = render(profile_document(replace(profile, devices=devices, links=links, systems=systems)))
    assert not set("\x1b\x07\u202e") & set(text)


# Drift --------------------------------------------------------------------------------------------------------------------------


def test_a_device_that_became_slower_is_told_with_what_its_driver_says() -> None:
    before = assemble(plan(), lines(), 5.0)
    now = assemble(plan(), lines((400.0, 263.0, 100.0), clock="405 MHz"), 6.0)
    (found,) = find_drifts(before, now)
    assert (found.node, found.index, found.since) == ("lab2", 0, 5.0)
    assert found.slowdown == pytest.approx(300 / 263)
    assert found.reason == "memory clock 405 MHz, was 5001 MHz"
    state = reduce(
        State(), DriftFound(node="lab2", slowdown=1.14, day="3 May", reason="memory clock 405 MHz", workload="digits-cnn")
    )
    assert state.alerts[0].text == "device 0: 14 % slower than on 3 May with digits-cnn: memory clock 405 MHz"
    found_again, measured_again = (ProfileStored(document={"workload": "digits-cnn"}, is_new=is_new) for is_new in (False, True))
    assert reduce(state, found_again).alerts[0].ended_at is None
    assert reduce(state, measured_again).alerts[0].ended_at is not None


def test_variation_of_the_measurement_is_no_drift() -> None:
    before = assemble(plan(), lines(), 5.0)
    assert find_drifts(before, assemble(plan(), lines((385.0, 310.0, 96.5)), 6.0)) == ()
    rough = replace(before, devices=tuple(replace(device, residual=0.1) for device in before.devices))
    assert find_drifts(rough, assemble(plan(), lines((320.0, 360.0, 90.0)), 6.0)) == ()


# Store --------------------------------------------------------------------------------------------------------------------------


def cache_and_events(
    directory: Path, plan: Plan, facts: dict[str, NodeConnected] | None = None
) -> tuple[ProfileCache, list[Event]]:
    events: list[Event] = []
    return ProfileCache(directory, plan, State(), facts or {}, events.append), events


def warnings(events: list[Event]) -> str:
    return " | ".join(event.reason for event in events if isinstance(event, Warned))


def run_dir_of(directory: Path, events: list[Event]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "events.jsonl").write_text("".join(encode(event) + "\n" for event in events))
    return directory


def test_a_profile_is_stored_loaded_and_compared_with_the_next(tmp_path: Path) -> None:
    cache, events = cache_and_events(tmp_path / "store", plan())
    assert cache.load_or_explain() is None
    assert "not profiled yet" in warnings(events)
    profile, _ = cache.save(run_dir_of(tmp_path / "one", lines()))
    again, events = cache_and_events(tmp_path / "store", plan())
    assert again.load_or_explain() == profile
    assert isinstance(events[0], ProfileStored)
    again.save(run_dir_of(tmp_path / "two", lines((400.0, 263.0, 100.0))))
    assert [event.node for event in events if isinstance(event, DriftFound)] == ["lab2"]


def test_a_profile_of_other_hardware_is_refused_with_the_difference(tmp_path: Path) -> None:
    cache_and_events(tmp_path, plan())[0].save(run_dir_of(tmp_path / "run", lines()))
    ranks = plan().ranks
    other = replace(plan(), ranks=(replace(ranks[0], device_name="another card"), *ranks[1:]))
    cache, events = cache_and_events(tmp_path, other)
    assert cache.load_or_explain() is None
    assert "other devices" in warnings(events)
    assert "another card" in warnings(events)
    cache.save(run_dir_of(tmp_path / "next", lines((100.0, 100.0, 100.0))))
    assert not [event for event in events if isinstance(event, DriftFound)], "another card is no drift"


def subset(*ranks: int) -> Plan:
    """That plan with some of its devices only."""
    whole = plan()
    nodes = tuple(replace(whole.nodes[rank], node_rank=place, ranks=(place,)) for place, rank in enumerate(ranks))
    left = tuple(replace(whole.ranks[rank], rank=place, node_rank=place) for place, rank in enumerate(ranks))
    return replace(whole, nodes=nodes, ranks=left)


def test_a_profile_of_more_devices_is_valid_for_a_subset(tmp_path: Path) -> None:
    profile, _ = cache_and_events(tmp_path, plan())[0].save(run_dir_of(tmp_path / "run", lines()))
    cache, events = cache_and_events(tmp_path, subset(0, 2))
    found = cache.load_or_explain()
    assert found == replace(profile, devices=(profile.devices[0], profile.devices[2]))
    assert "profiled first" not in warnings(events)
    cache.calibrate(replace(profile, overlap=0.5, is_calibrated=True))
    whole = cache_and_events(tmp_path, plan())[0].load()
    assert whole == replace(profile, overlap=0.5, is_calibrated=True), "the calibration of a subset is stored with all devices"
    ranks = subset(0, 2).ranks
    other = replace(subset(0, 2), ranks=(ranks[0], replace(ranks[1], emulation=Emulation(7.0))))
    assert cache_and_events(tmp_path, other)[0].load_or_explain() is None
    seeded = replace(subset(0, 2), ranks=tuple(replace(rank, emulation=Emulation(RATES[2 * rank.rank], seed=9)) for rank in ranks))
    assert cache_and_events(tmp_path, seeded)[0].load_or_explain() is not None, "the seed of a job is nothing of the device"


def test_another_version_of_torch_or_driver_is_named_and_measured_again(tmp_path: Path) -> None:
    then = {"lab1": NodeConnected(node="lab1", torch="2.12", driver="535.1"), "lab2": NodeConnected(node="lab2", torch="2.12")}
    cache_and_events(tmp_path, plan(), then)[0].save(run_dir_of(tmp_path / "run", lines()))
    for facts, why in (
        (then, ""),
        ({}, ""),
        (then | {"lab2": NodeConnected(torch="2.12", driver="550")}, ""),
        (then | {"lab1": NodeConnected(torch="2.12", driver="550.2")}, "driver of lab1 is 550.2, was 535.1"),
        (then | {"lab2": NodeConnected(torch="2.13")}, "torch of lab2 is 2.13, was 2.12"),
    ):
        cache, events = cache_and_events(tmp_path, plan(), facts)
        assert (cache.load_or_explain() is None) == bool(why)
        assert why in warnings(events)
    cache.save(run_dir_of(tmp_path / "next", lines((400.0, 263.0, 100.0))))
    assert [event.node for event in events if isinstance(event, DriftFound)] == ["lab2"], "the drift is reported all the same"


@pytest.mark.parametrize(
    "broken", [b"", b"{", b"[]", b"null", b'{"schema": 9}', b'{"schema": 1, "profile": {"devices": 3}}', b"\xff"]
)
def test_a_broken_profile_is_said_plainly_and_measured_again(tmp_path: Path, broken: bytes) -> None:
    cache, events = cache_and_events(tmp_path, plan())
    ProfileStore(tmp_path).path(plan()).write_bytes(broken)
    assert cache.load_or_explain() is None
    assert "broken" in warnings(events) or "schema" in warnings(events)
    cache.save(run_dir_of(tmp_path / "run", lines()))
    assert cache_and_events(tmp_path, plan())[0].load_or_explain() is not None


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('"fixed_seconds":0.001', '"fixed_seconds":-1.0'),
        ('"seconds_per_sample":0.0025', '"seconds_per_sample":0.0'),
        ('"beta":40000000.0', '"beta":0'),
        ('"world_size":3', '"world_size":1'),
        ('"closed_at":[0.4,1.0]', '"closed_at":[0.4]'),
        ('"bandwidth":100000000.0', '"bandwidth":-1'),
        ('"overlap":1.0', '"overlap":1e999'),
    ],
)
def test_impossible_values_are_a_broken_profile(tmp_path: Path, was: str, now: str) -> None:
    cache_and_events(tmp_path, plan())[0].save(run_dir_of(tmp_path / "run", lines()))
    path = ProfileStore(tmp_path).path(plan())
    text = json.dumps(json.loads(path.read_text()), separators=(",", ":"))
    assert was in text
    path.write_text(text.replace(was, now))
    cache, events = cache_and_events(tmp_path, plan())
    assert cache.load_or_explain() is None
    assert "broken" in warnings(events)


def test_a_full_disk_keeps_the_old_profile_and_returns_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_and_events(tmp_path, plan())[0].save(run_dir_of(tmp_path / "run", lines()))
    before = ProfileStore(tmp_path).path(plan()).read_bytes()
    next_run = run_dir_of(tmp_path / "next", lines((200.0, 300.0, 100.0)))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache, events = cache_and_events(tmp_path, plan())
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        profile, _ = cache.save(next_run)
    assert profile.devices[0].samples_per_second == pytest.approx(200.0)
    assert "space" in warnings(events)
    assert ProfileStore(tmp_path).path(plan()).read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_the_old_profile_stays_where_nothing_was_timed(tmp_path: Path) -> None:
    cache_and_events(tmp_path, plan())[0].save(run_dir_of(tmp_path / "run", lines()))
    with pytest.raises(WorkFailed, match="it broke"):
        cache_and_events(tmp_path, plan())[0].save(run_dir_of(tmp_path / "next", [DeviceProfiled(rank=0, error="it broke")]))
    assert cache_and_events(tmp_path, plan())[0].load_or_explain() is not None


def test_emulated_speeds_are_part_of_the_fingerprint_but_not_of_the_profile(tmp_path: Path) -> None:
    ranks = plan().ranks
    faster = replace(plan(), ranks=(replace(ranks[0], emulation=Emulation(987654.0)), *ranks[1:]))
    assert profile_fingerprint(plan(), "m") != profile_fingerprint(faster, "m")
    store = ProfileStore(tmp_path)
    store.save(store.path(faster), StoredProfile(assemble(faster, lines(), 5.0), profile_fingerprint(faster, "m"), {}))
    assert "987654" not in store.path(faster).read_text()


# On the node --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 9, 100, 1000, 917_568, 3_000_001])
def test_the_largest_batch_is_found_in_log2_plus_3_probes_and_never_too_large(limit: int) -> None:
    from paceline.engine.profiling.steps import find_largest

    asked: list[int] = []

    def holds(size: int) -> bool:
        asked.append(size)
        return size <= limit

    found = find_largest(holds)
    assert found is not None
    assert found <= limit < found * 1.13 + 1
    assert len(asked) <= limit.bit_length() + 1 + 3


def test_a_slow_device_is_timed_at_two_sizes_so_that_its_fixed_part_is_seen() -> None:
    from types import SimpleNamespace

    from paceline.engine.profiling.steps import MIN_STEP_REPEATS, measure_steps, relative_spread

    class Slow:
        """1.5 s a step and 1 s a sample, a quarter of it in another program's hands."""

        timer, device = object(), SimpleNamespace(type="cpu")

        def __init__(self) -> None:
            self.measured: list[tuple[int, float, float]] = []

        def measure(self, size: int) -> float:
            self.measured.append((size, 1.5 + size, (1.5 + size) / 4))
            return 1.5 + size

    slow = Slow()
    found = measure_steps(slow, 0)  # type: ignore[arg-type]  # it has what is used
    assert found.sizes == (1, 2)
    assert (found.fixed_seconds, found.seconds_per_sample) == pytest.approx((1.5, 1.0))
    assert (found.stalled, found.spread) == pytest.approx((0.25, 0.0))
    assert len(slow.measured) <= 2 * (MIN_STEP_REPEATS + 1)
    steps = [(size, size * (1 + off), 0.0) for size in (1, 64) for off in (-0.1, 0.0, 0.0, 0.1, 0.1, -0.1, 5.0)]
    assert relative_spread(steps) == pytest.approx(0.148, abs=0.01)  # the outliers do not count


def test_a_device_without_room_for_one_sample_and_one_without_limit_are_told_apart() -> None:
    from paceline.engine.profiling.steps import find_largest

    assert find_largest(lambda size: False) == 0
    assert find_largest(lambda size: True) is None


def test_an_emulated_device_runs_out_of_memory_beyond_the_largest_batch_and_not_at_it() -> None:
    import torch
    from paceline.engine.profiling.steps import find_largest
    from paceline.engine.training.emulation.device import EmulatedTimer
    from paceline.engine.training.models import build_model
    from paceline.engine.workloads import WORKLOADS

    rank = RankPlan(0, "n", 0, 0, 0, "emulated", "small", 404 << 20, Emulation(1e6))
    model = build_model("digits-cnn")
    timer = EmulatedTimer(rank, Emulation(1e6), WORKLOADS["digits-cnn"], model)

    def holds(size: int) -> bool:
        try:
            timer.allocate(size)
        except torch.OutOfMemoryError:
            return False
        return True

    largest = find_largest(holds)
    assert largest
    timer.begin(-1, largest)
    timer.copied()
    timer.run(model, torch.zeros((largest, 1, 8, 8)))
    with pytest.raises(torch.OutOfMemoryError, match="has 404 MiB"):
        timer.run(model, torch.zeros((2 * largest, 1, 8, 8)))


def test_every_pair_meets_once_and_no_node_twice_in_a_round() -> None:
    from paceline.engine.profiling.network import round_robin_pairs

    for nodes in range(1, 10):
        met = []
        for pairs in round_robin_pairs(nodes):
            busy = [node for pair in pairs for node in pair]
            assert len(busy) == len(set(busy))
            met += pairs
        assert sorted(met) == [(a, b) for a in range(nodes) for b in range(a + 1, nodes)]


def test_a_link_that_is_blocked_is_said_and_costs_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from paceline.engine.profiling import network

    monkeypatch.setattr(network, "LINK_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        port = silent.getsockname()[1]
        link = network.measure_link("lab2", "127.0.0.1", f"{port} token", None)
        assert link.error == "lab2 at 127.0.0.1 is unreachable: no answer in time"
        assert link.bandwidth is None
    assert "refused" in network.measure_link("lab2", "127.0.0.1", f"{port} token", None).error
    assert "did not publish its port" in network.measure_link("lab2", "127.0.0.1", "", None).error


def test_a_link_that_is_blocked_one_way_is_said_of_that_way_and_all_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from paceline.engine.profiling import network
    from paceline.engine.profiling.rank_sync import RankSync
    from torch.distributed import HashStore  # type: ignore[attr-defined]  # torch re-exports it implicitly

    asked = plan()
    nodes = tuple(replace(node, address=f"127.0.0.{node.node_rank + 1}") for node in asked.nodes)
    asked = replace(asked, nodes=nodes)
    store = HashStore()
    links_of: dict[str, list[Any]] = {node.name: [] for node in nodes}
    connect = socket.create_connection

    def blocked_one_way(address: tuple[str, int], timeout: float) -> socket.socket:
        if threading.current_thread().name == "lab1" and address[0] == "127.0.0.3":
            raise TimeoutError("timed out")
        return connect(address, timeout)

    monkeypatch.setattr(socket, "create_connection", blocked_one_way)

    def measure(node: NodePlan) -> None:
        network.measure_links(asked, node, RankSync(node.node_rank, store), links_of[node.name].append)

    threads = [threading.Thread(target=measure, args=(node,), name=node.name) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {(node, link.peer): link for node, links in links_of.items() for link in links}
    assert len(found) == 6
    assert [pair for pair, link in found.items() if link.error] == [("lab1", "lab3")]
    assert all(link.bandwidth for link in found.values() if not link.error)


def test_a_link_is_measured_only_with_its_token() -> None:
    from paceline.engine.profiling import network

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        threading.Thread(target=network._serve_echo, args=(listener, "a" * 32, None), daemon=True).start()
        assert network.measure_link("lab2", "127.0.0.1", f"{port} {'b' * 32}", None).error
        link = network.measure_link("lab2", "127.0.0.1", f"{port} {'a' * 32}", None)
    assert link.error == ""
    assert link.latency
    assert link.bandwidth


def test_a_disk_is_measured_and_a_full_one_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paceline.engine.profiling import host

    monkeypatch.setattr(host, "DISK_TEST_BYTES", 8 << 20)
    system = host.measure_host(tmp_path, {})
    assert system.error == ""
    assert system.processor_tflops is not None
    assert 1e-4 < system.processor_tflops < 1e3
    assert system.memory_bandwidth is not None
    assert 1e8 < system.memory_bandwidth < 1e13
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageFailed, match="cannot measure"):
        host.measure_disk(tmp_path / "gone" / "file", host.DISK_TEST_BYTES)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(host, "measure_processor", lambda: (1.0, 2.0))
    system = host.measure_host(tmp_path, {})
    assert "is full" in system.error
    assert system.disk_write is None
    assert system.cores
    assert list(tmp_path.iterdir()) == []


def test_progress_of_a_profiling_run_is_shown_until_it_ends() -> None:
    state = reduce(State(), ProfilingAdvanced(run_id="r1", phase="disks", fraction=0.5, seconds_left=9.0))
    assert (state.runs["r1"].phase, state.runs["r1"].fraction) == ("profiling: disks", 0.5)
    assert reduce(state, ProfilingAdvanced(run_id="r1", fraction=1.0)).runs["r1"].phase == ""
