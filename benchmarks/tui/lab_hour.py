"""A generated session for benchmarks of recordings: nodes that report every second, and a run over all their devices.

Numbers have as many digits as real readings and step times have, drawn from a seed: they decide how far a recording compresses.
Nothing in it was measured.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from paceline.engine.events import (
    CaseStarted,
    DeviceReading,
    DiskReading,
    EpochEnded,
    Event,
    HostProcess,
    HostReading,
    InventoryRead,
    LinkReading,
    NodeConnected,
    NodeLost,
    NodeReported,
    NodeSummary,
    ProcessReading,
    RankJoined,
    RankSummary,
    RunEnded,
    RunnerStarted,
    RunPlanned,
    SharesChanged,
    StepsTaken,
    StragglerEnded,
    StragglerFound,
    Ticked,
)

GIB = 1024**3
CLOCK = 1_795_183_200.0
RUN = "20261120-140200-k7p3xa"
START_S = 40.0
"""Stream time at which the run starts."""
TROUBLE_S = 300.0
"""Seconds between two stragglers; each is followed by a change of shares."""
SLOW_READINGS_S = 5
"""Seconds between two readings of cores and processes."""
MEAN_STEP_S = 0.8
"""Step time of the run."""


def lab_hour(seconds: int = 3600, nodes: int = 8, devices: int = 8, lines: float = 1.0, seed: int = 1) -> Iterator[Event]:
    """The events in the order of time. ``lines``: of each rank a second."""
    draw = random.Random(seed)
    names = [f"lab{number:02}" for number in range(nodes)]
    yield InventoryRead(path="lab/nodes.toml", lab="lab", nodes=tuple(NodeSummary(name) for name in names))
    for name in names:
        connected = NodeConnected(node=name, hostname=name, python="3.12.3", system="Linux 6.8", torch="2.6.0", driver="570.86")
        yield _at(connected, draw.random())
    ranks = tuple(RankSummary(rank, names[rank // devices], rank % devices, "RTX 3060", "cuda") for rank in range(nodes * devices))
    taken = 0.0
    for second in range(1, seconds):
        timed: list[Event] = [Ticked(at=round(second + 0.01, 4), clock=CLOCK + second)]
        timed += [
            _at(_report(draw, name, devices, second), second + 0.02 + 0.9 * place / nodes) for place, name in enumerate(names)
        ]
        if second == START_S:
            timed += _launch(ranks)
        if START_S < second < seconds - 5:
            taken += lines
            for _ in range(int(taken)):
                timed += _steps(draw, ranks, second)
            taken -= int(taken)
            timed += _trouble(draw, ranks, second)
        if second == seconds - 5:
            timed.append(RunEnded(at=second + 0.5, run_id=RUN))
        yield from sorted(timed, key=lambda event: event.at)


def _at(event: Event, at: float) -> Event:
    object.__setattr__(event, "at", round(at, 4))
    return event


def _report(draw: random.Random, name: str, devices: int, second: int) -> NodeReported:
    is_slow = second % SLOW_READINGS_S == 0
    host = HostReading(
        cpu=round(draw.uniform(0.3, 0.6), 3),
        memory_used=40 * GIB + 4096 * draw.randrange(1 << 16),
        memory_total=128 * GIB,
        disk_free=900 * GIB - 4096 * 211 * second,
        cores=32,
        load=round(draw.uniform(5, 9), 2),
        swap_used=0,
        swap_total=0,
        uptime=31_000.0 + second,
        disks=(DiskReading("/", "/dev/nvme0n1p2", 400 * GIB + 4096 * 211 * second, 1800 * GIB),),
        links=(LinkReading("eno1", round(draw.uniform(1e8, 1.2e8), 1), round(draw.uniform(1e8, 1.2e8), 1), 1e10),),
        core_use=tuple(draw.randrange(20, 90) for _ in range(32)) if is_slow else None,
        processes=(
            tuple(HostProcess(4000 + n, "ada", "python", round(draw.uniform(0.5, 1.2), 2), 3 * GIB) for n in range(5))
            if is_slow
            else None
        ),
    )
    readings = tuple(_device(draw, index) for index in range(devices))
    return NodeReported(node=name, node_time=round(CLOCK + second + draw.random(), 4), host=host, devices=readings)


def _device(draw: random.Random, index: int) -> DeviceReading:
    return DeviceReading(
        index=index,
        name="RTX 3060",
        kind="cuda",
        utilization=draw.randrange(80, 101) / 100,
        memory_used=9 * GIB + (1 << 20) * draw.randrange(64),
        memory_total=12 * GIB,
        temperature=float(draw.randrange(61, 67)),
        power=round(draw.uniform(140, 170), 3),
        power_limit=170.0,
        clock=float(draw.randrange(1780, 1905, 15)),
        processes=(ProcessReading(4000 + index, "ada", "python", 8 * GIB, RUN, rank=index),),
        memory_clock=7300.0,
        fan=draw.randrange(50, 60) / 100,
        pcie=(4, 16, 4, 16),
        ecc_errors=None,
        performance_state=2,
        uuid=f"GPU-{index:08x}-1111-2222-3333-444444444444",
    )


def _launch(ranks: tuple[RankSummary, ...]) -> list[Event]:
    plan = RunPlanned(
        run_id=RUN,
        workload="imagenet-resnet",
        cases=("hybrid",),
        ranks=ranks,
        epochs=40,
        global_batch_size=64 * 64,
        samples_per_epoch=64 * 64 * 110,
        source="local",
    )
    events: list[Event] = [_at(plan, START_S + 0.1)]
    for rank in ranks:
        runner = RunnerStarted(run_id=RUN, node=rank.node, pid=5000, node_time=CLOCK + START_S)
        joined = RankJoined(run_id=RUN, node=rank.node, rank=rank.rank, pid=5001, world_size=len(ranks), backend="nccl")
        events += [_at(runner, START_S + 0.2), _at(joined, START_S + 0.3)]
    sizes = (64,) * len(ranks)
    started = CaseStarted(run_id=RUN, node=ranks[0].node, case="hybrid", policy="hybrid", local_batch_sizes=sizes)
    return [*events, _at(started, START_S + 0.4)]


def _steps(draw: random.Random, ranks: tuple[RankSummary, ...], second: int) -> list[Event]:
    """One line of each rank, with six decimals as the rank log writes them."""
    step, loss = int((second - START_S) / MEAN_STEP_S), round(7.0 / (1 + second / 600) + draw.uniform(0, 0.1), 6)
    took, moment = draw.uniform(0.75, 0.85), second + draw.random()
    events = []
    for rank in ranks:
        own = took * draw.uniform(0.7, 0.97)
        taken = StepsTaken(
            node=rank.node,
            node_time=round(CLOCK + moment + draw.uniform(0, 0.02), 4),
            run_id=RUN,
            rank=rank.rank,
            case="hybrid",
            epoch=step // 110,
            step=step,
            steps=1,
            local_batch_size=64,
            compute_seconds=round(own, 6),
            wait_seconds=round(took - own, 6),
            step_seconds=round(took + draw.uniform(0, 0.001), 6),
            data_seconds=round(draw.uniform(0.001, 0.02), 6),
            copy_seconds=round(draw.uniform(0.001, 0.002), 6),
            host_seconds=round(draw.uniform(0.0005, 0.003), 6),
            backward_seconds=round(own * draw.uniform(0.6, 0.66), 6),
            optimizer_seconds=round(draw.uniform(0.002, 0.003), 6),
            samples=64,
            loss=loss,
        )
        events.append(_at(taken, moment + draw.uniform(0, 0.1)))
    return events


def _trouble(draw: random.Random, ranks: tuple[RankSummary, ...], second: int) -> list[Event]:
    """Every few minutes a straggler, a change of shares a little later, and its end; once an hour a lost node."""
    phase, step = (second - START_S) % TROUBLE_S, int((second - START_S) / MEAN_STEP_S)
    common: dict[str, Any] = {"run_id": RUN, "node": ranks[0].node, "case": "hybrid"}
    slow = int(second // TROUBLE_S) % len(ranks)
    sizes = (64,) * len(ranks)
    match phase:
        case 100.0:
            found = StragglerFound(**common, straggler=slow, slowdown=1.5, since=step - 3, step=step, before=sizes, after=sizes)
            return [_at(found, second + 0.3)]
        case 104.0:
            changed = tuple(43 if rank == slow else 64 for rank in range(len(ranks)))
            return [_at(SharesChanged(**common, step=step, before=sizes, after=changed, reason="a rank is slow"), second + 0.3)]
        case 160.0:
            return [_at(StragglerEnded(**common, straggler=slow, slowdown=1.5, since=step - 78, step=step), second + 0.3)]
        case 200.0:
            ended = EpochEnded(**common, epoch=step // 110, epochs=40, samples=450_560, seconds=88.0, loss=round(draw.random(), 6))
            return [_at(ended, second + 0.3)]
        case 250.0 if second > 1800 and second < 1800 + TROUBLE_S:
            return [_at(NodeLost(node=ranks[-1].node, reason="connection reset by peer"), second + 0.3)]
    return []
