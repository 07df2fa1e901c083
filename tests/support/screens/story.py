"""A made-up session for tests: four emulated devices, one bench of four policies. Nothing in it was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from paceline.engine.errors import PacelineError
from paceline.engine.events import (
    BaselineMeasured,
    CaseEnded,
    CaseStarted,
    DeviceProbed,
    DeviceReading,
    EpochEnded,
    Event,
    HostReading,
    InventoryRead,
    NodeConnected,
    NodeConnecting,
    NodeLost,
    NodeReported,
    NodeSummary,
    ProfileStored,
    Progress,
    RankFailed,
    RankJoined,
    RankSummary,
    ResultDerived,
    RunEnded,
    RunPlanned,
    SharesChanged,
    StandaloneMeasured,
    StepsTaken,
    StragglerFound,
    Ticked,
)
from paceline.engine.jobs.logs.merge import Clock
from paceline.engine.reports.phases import PHASES
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State
from paceline.engine.telemetry.recording import Recorder
from paceline.tui.sessions.session import Answer

GIB = 1024**3
DEVICES = (
    ("demo1", "RTX 3060", 12, 425.0),
    ("demo2", "RTX 3050", 8, 305.0),
    ("demo3", "GTX 1650", 4, 100.0),
    ("demo4", "GTX 1650", 4, 100.0),
)
"""Node, device, GiB, samples per second alone: invented."""
RUN = "20261120-140200-k7p3xa"
CLOCK = 1_795_183_200.0
EPOCHS, PER_EPOCH, SAMPLES, BATCH = 8, 4, 1437, 384
EQUAL, FAST = (96, 96, 96, 96), (176, 126, 41, 41)
CASES: dict[str, tuple[tuple[int, ...], dict[int, tuple[tuple[int, ...], str]]]] = {
    "equal": (EQUAL, {}),
    "proportional": ((175, 127, 41, 41), {}),
    "dynamic": (EQUAL, {5: (FAST, "first fit of all devices after 5 steps")}),
    "hybrid": (FAST, {14: ((183, 131, 28, 42), "demo3 slowed 1.5x since step 12")}),
}


PREDICTED = {"equal": 409.0, "proportional": 861.0, "dynamic": 861.0, "hybrid": 861.0}
"""Samples per second, said before the launch."""


def summaries() -> tuple[NodeSummary, ...]:
    """The machines, before they have answered."""
    return tuple(
        NodeSummary(node, "embedded", "127.0.0.1", (DeviceReading(0, name, memory_total=memory * GIB),))
        for node, name, memory, _ in DEVICES
    )


def healthy_ranks() -> tuple[RankSummary, ...]:
    """One rank a device."""
    return tuple(RankSummary(rank, node, 0, name) for rank, (node, name, _, _) in enumerate(DEVICES))


def inventory() -> InventoryRead:
    """The first event."""
    return InventoryRead(path="reference-lab/nodes.toml", lab="reference-lab", nodes=summaries())


def healthy() -> list[Event]:
    """From the first paint to the result, all in order."""
    return _timed([*_arrival(), *_bench()])


def trouble() -> list[Event]:
    """The same until the third case; then a node goes and a rank dies of it."""
    events = _timed([*_arrival(), *_bench()])
    end = next(event.at for event in events if isinstance(event, SharesChanged)) + 6.0
    kept = [event for event in events if event.at <= end]
    hot = DeviceReading(0, "GTX 1650", "cuda", 0.99, 3 * GIB, 4 * GIB, 87.0, 71.0, 75.0, 1110.0, ("thermal",))
    return [
        *kept,
        replace(NodeReported(node="demo3", devices=(replace(hot, clock=1665.0, throttle=(), temperature=71.0),)), at=end - 0.1),
        replace(NodeReported(node="demo3", devices=(hot,)), at=end + 0.1),
        StragglerFound(
            at=end + 0.5,
            node="demo1",
            run_id=RUN,
            case="dynamic",
            straggler=2,
            slowdown=1.52,
            since=14,
            step=20,
            part_expected_seconds=0.4,
            part_seconds=0.61,
        ),
        NodeLost(at=end + 1, node="demo4", reason="connection reset by peer"),
        RankFailed(at=end + 2, node="demo2", run_id=RUN, rank=1, case="dynamic", reason="CUDA error: out of memory"),
        *(event for second in range(3, 9) for event in _still(end + second)),
    ]


def _still(at: float) -> Iterator[Event]:
    """A second in which two of the four nodes report."""
    yield Ticked(at=at, clock=CLOCK + at)
    for node, name, memory, _ in DEVICES[:2]:
        yield NodeReported(at=at, node=node, devices=(DeviceReading(0, name, "emulated", 0.0, GIB // 3, memory * GIB),))


def record(path: Path, events: list[Event]) -> Path:
    """Write the events as a recording."""

    def fail(error: Exception) -> None:
        raise error

    recorder = Recorder(path, "test", fail)
    for event in events:
        recorder(event)
    recorder.close()
    return path


class StorySession:
    """A session for the screens that hands out its events at once, and keeps what it is asked to do."""

    def __init__(self, events: list[Event], is_replay: bool = False) -> None:
        self.events = events
        self.is_replay = is_replay
        self.inventory = next((event for event in events if isinstance(event, InventoryRead)), None)
        self.state = State() if self.inventory is None else reduce(State(), self.inventory)
        self.asked: list[str] = []
        self.copies: Path | None = None
        """Where logs of its run lie, if a test wrote some."""
        self.offsets: dict[str, Clock] = {}
        """How clocks of its nodes differ from ours, if a test says so."""
        self.is_closed = False
        self._listeners: list[Callable[[Event], None]] = []

    def logs(self, run_id: str) -> Path | None:
        return self.copies

    async def clocks(self, nodes: Sequence[str]) -> dict[str, Clock]:
        return self.offsets

    async def read_run(self, run_id: str) -> None:
        self.asked.append(f"read {run_id}")

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    def publish(self, event: Event) -> None:
        self.state = reduce(self.state, event)
        for listener in self._listeners:
            listener(event)

    async def open(self) -> None:
        for event in self.events:
            self.publish(event)

    async def close(self) -> None:
        self.is_closed = True

    async def perform(self, line: str) -> Answer | None:
        self.asked.append(line)
        if line == "fail":
            raise PacelineError("it [/broke", node="demo1", hint="mend it")
        return None


def _timed(events: list[Event]) -> list[Event]:
    """In the order of arrival, with a tick and the readings of every node each second."""
    end = max(event.at for event in events)
    seconds: list[Event] = []
    for second in range(1, math.ceil(end) + 1):
        seconds.append(Ticked(at=second, clock=CLOCK + second))
        seconds += [_report(index, second, events) for index in range(len(DEVICES)) if second > index]
    return sorted([*events, *seconds], key=lambda event: event.at)


def _report(index: int, second: int, events: list[Event]) -> NodeReported:
    node, name, memory, _ = DEVICES[index]
    steps = [
        event for event in events if isinstance(event, StepsTaken) and event.rank == index and second - 1.2 < event.at <= second
    ]
    used = steps[-1].compute_seconds / steps[-1].step_seconds if steps else 0.0
    wave = 0.02 * math.sin(second * 1.7 + index)
    reading = DeviceReading(
        0, name, "emulated", min(1.0, max(0.0, used + (wave if used else 0.0))), int((0.3 + 2.4 * bool(steps)) * GIB), memory * GIB
    )
    host = HostReading(0.6, 5 * GIB, 16 * GIB, 80 * GIB)
    return NodeReported(at=second, node=node, host=host, devices=(reading,))


def profile(workload: str = "digits-cnn", slower: float = 1.14) -> dict[str, Any]:
    """A profile of these machines; the third device has drifted since the last one."""
    drift = {"slowdown": slower, "since": CLOCK - 17 * 86400.0, "reason": "memory clock 405 MHz, was 5001 MHz"}
    sizes = [1, 2, 4, 8, 16, 32, 64, 128]
    return {
        "workload": workload,
        "measured": CLOCK - 3 * 3600.0,
        "emulated": True,
        "devices": [
            {
                "node": node,
                "index": 0,
                "name": name,
                "kind": "emulated",
                "emulated": True,
                "memory": memory * GIB,
                "tflops": {"fp32": rate / 33.5, "tf32": None, "bf16": None, "fp16": None},
                "score": rate / DEVICES[0][3],
                "fit": {"a": 0.0009, "c": 1 / rate, "residual": 0.004},
                "sizes": sizes,
                "seconds": [0.0009 + size / rate for size in sizes],
                "largest_batch": 76_458 * memory,
                "facts": [{"name": "python", "value": "3.11.7"}, {"name": "torch", "value": "2.13.0+cpu"}],
                "drift": drift if node == "demo3" else None,
            }
            for node, name, memory, rate in DEVICES
        ],
        "links": [
            {"from": one, "to": other, "latency": 0.0004, "bandwidth": 1.1e8, "error": None}
            if (one, other) != ("demo4", "demo2")
            else {"from": one, "to": other, "error": "no way to demo2 at 10.0.0.2: nothing came back in time"}
            for one, *_ in DEVICES
            for other, *_ in DEVICES
            if one != other
        ],
        "all_reduce": {"ranks": 4, "alpha": 0.0024, "beta": 7.3e7, "residual": 0.02, "sizes": [], "seconds": []},
        "gradient": {
            "parameters": 2_973_444,
            "bucket_bytes": [1_066_000, 10_828_000],
            "closed_at": [0.42, 1.0],
            "forward_share": 0.34,
            "optimizer_seconds": 0.004,
            "low_rank_bytes": [41_000, 204_000],
        },
        "system": [
            {"node": node, "processor": "a processor", "cores": 8, "memory": 16 * GIB, "disk_write": 4.1e8, "disk_read": 5.2e8}
            for node, *_ in DEVICES
        ],
    }


def _arrival() -> Iterator[Event]:
    yield inventory()
    yield ProfileStored(at=0.05, document=profile())
    for index, (node, *_) in enumerate(DEVICES):
        yield NodeConnecting(at=0.1, node=node)
        yield NodeConnected(at=0.6 + 0.3 * index, node=node, hostname=node, python="3.11.7", system="Linux")


def _bench() -> Iterator[Event]:
    for at, phase, fraction in (
        (4.0, "loading digits", None),
        (5.0, "pushing data to 4 nodes", 0.5),
        (6.0, "starting torchrun", None),
    ):
        yield Progress(at=at, run_id=RUN, phase=phase, fraction=fraction)
    ranks = healthy_ranks()
    yield RunPlanned(
        at=6.5,
        run_id=RUN,
        workload="digits-cnn",
        cases=tuple(CASES),
        predicted=tuple(PREDICTED.values()),
        ranks=ranks,
        epochs=EPOCHS,
        global_batch_size=BATCH,
        samples_per_epoch=SAMPLES,
        source="scikit-learn digits",
        is_emulated=True,
        is_bench=True,
    )
    for rank, (node, *_) in enumerate(DEVICES):
        yield RankJoined(at=15.0, node=node, run_id=RUN, rank=rank, world_size=4, backend="gloo")
        yield DeviceProbed(at=17.0, node=node, run_id=RUN, rank=rank, local_batch_sizes=(32, 96), seconds=(0.1, 0.3))
    at = 18.0
    rates: dict[str, float] = {}
    for case in CASES:
        at, rates[case] = yield from _case(case, at)
    yield RunEnded(at=at + 1, run_id=RUN, state="done")
    yield ResultDerived(at=at + 2, run_id=RUN, document=document(rates))


def _case(case: str, at: float) -> Generator[Event, None, tuple[float, float]]:
    sizes, changes = CASES[case]
    common: dict[str, Any] = {"run_id": RUN, "case": case}
    yield CaseStarted(at=at, node="demo1", policy=case, local_batch_sizes=sizes, **common)
    counted = 0.0
    for step in range(EPOCHS * PER_EPOCH):
        slowed = case == "hybrid" and step >= 12
        if step in changes:
            after, reason = changes[step]
            yield SharesChanged(
                at=at,
                node="demo1",
                step=step,
                before=sizes,
                after=after,
                reason=reason,
                predicted_before=max(_compute(sizes, slowed, step)) + 0.012,
                predicted_after=max(_compute(after, slowed, step)) + 0.01,
                **common,
            )
            sizes = after
        last = step % PER_EPOCH == PER_EPOCH - 1
        scale = (SAMPLES - BATCH * (PER_EPOCH - 1)) / BATCH if last else 1.0
        compute = [seconds * scale for seconds in _compute(sizes, slowed, step)]
        seconds = max(compute) + 0.012
        at += seconds
        counted += seconds if step >= PER_EPOCH else 0.0
        for rank, (node, *_) in enumerate(DEVICES):
            yield StepsTaken(
                at=at,
                node=node,
                rank=rank,
                epoch=step // PER_EPOCH,
                step=step,
                steps=1,
                local_batch_size=round(sizes[rank] * scale),
                compute_seconds=compute[rank],
                wait_seconds=seconds - compute[rank],
                step_seconds=seconds,
                data_seconds=0.03 * compute[rank],
                copy_seconds=0.004 * compute[rank],
                host_seconds=0.012 * compute[rank] if rank == 1 else 0.0,
                samples=round(sizes[rank] * scale),
                loss=2.3 * math.exp(-step / 7) + 0.09 + 0.05 * math.sin(step * 1.3) * math.exp(-step / 15),
                utilization=compute[rank] / seconds,
                **common,
            )
        if last:
            yield _epoch(case, step // PER_EPOCH, at + 0.05, sizes)
            at += 0.1
    yield CaseEnded(at=at, node="demo1", local_batch_sizes=sizes, changes=len(changes), **common)
    for rank, (node, _, _, rate) in enumerate(DEVICES):
        at += 0.6
        yield StandaloneMeasured(
            at=at, node=node, rank=rank, local_batch_size=sizes[rank], samples_per_second=rate, steps=10, **common
        )
    if case == "equal":
        rate = DEVICES[0][3]
        yield BaselineMeasured(at=at, node="demo1", local_batch_size=BATCH, samples_per_second=rate, steps=5, **common)
    return at + 1.0, SAMPLES * (EPOCHS - 1) / counted


def _compute(sizes: tuple[int, ...], slowed: bool, step: int) -> list[float]:
    rates = [rate / (1.5 if slowed and rank == 2 else 1.0) for rank, (_, _, _, rate) in enumerate(DEVICES)]
    return [
        size / rate * (1.0 + 0.01 * math.sin(step * 2.1 + rank)) for rank, (size, rate) in enumerate(zip(sizes, rates, strict=True))
    ]


def _epoch(case: str, epoch: int, at: float, sizes: tuple[int, ...]) -> EpochEnded:
    loss = 2.1 * math.exp(-epoch / 1.8) + 0.1
    metric = 0.972 - 0.8 * math.exp(-epoch / 1.1)
    seconds = 3.7 * max(_compute(sizes, False, 0))
    return EpochEnded(
        at=at,
        node="demo1",
        run_id=RUN,
        case=case,
        epoch=epoch,
        epochs=EPOCHS,
        samples=SAMPLES,
        seconds=seconds,
        training_loss=loss,
        loss=loss + 0.02,
        metric=metric,
        metric_name="accuracy",
        local_batch_sizes=sizes,
    )


def phases(case: str) -> list[dict[str, Any]]:
    """Where a step of that case goes, rank by rank."""
    first, changes = CASES[case]
    compute = _compute([*changes.values()][-1][0] if changes else first, False, 0)
    found = []
    for rank, (node, *_) in enumerate(DEVICES):
        own, wait = compute[rank], max(compute) - compute[rank]
        parts = (0.03 * own, 0.004 * own, 0.0, 0.32 * own, 0.646 * own, 0.012, wait, 0.002)
        found += [
            {"rank": rank, "node": node, "phase": phase, "seconds": seconds} for phase, seconds in zip(PHASES, parts, strict=True)
        ]
    return found


def bottleneck(case: str) -> dict[str, Any]:
    """What the profiler says of that case."""
    if case == "equal":
        advice = "share the batch by measured speed (--policy hybrid)"
        return {"phase": "wait", "share": 0.43, "rank": 3, "node": "demo4", "advice": advice}
    advice = "nothing to fix: the devices compute; add devices to be faster"
    return {"phase": "compute", "share": 0.93, "rank": None, "node": None, "advice": advice}


def document(rates: dict[str, float]) -> dict[str, Any]:
    """A result as ``bench`` writes it."""
    alone = [rate for *_, rate in DEVICES]
    cases = [
        {
            "policy": case,
            "samples_per_second": rate,
            "samples_per_second_all": rate * 0.98,
            "predicted_samples_per_second": PREDICTED[case],
            "prediction_error": PREDICTED[case] / rate - 1.0,
            "standalone_samples_per_second": alone,
            "speedup_over_equal": rate / rates["equal"],
            "speedup_over_best_device": rate / max(alone),
            "balance_efficiency": rate / sum(alone),
            "imbalance": {"equal": 1.2, "proportional": 0.06, "dynamic": 0.03, "hybrid": 0.02}[case],
            "changes": len(CASES[case][1]),
            "local_batch_sizes": list([*CASES[case][1].values()][-1][0] if CASES[case][1] else CASES[case][0]),
            "loss": 0.131,
            "accuracy": 0.972 + 0.001 * len(case) % 0.003,
            "phases": phases(case),
            "bottleneck": bottleneck(case),
        }
        for case, rate in rates.items()
    ]
    return {
        "schema": 1,
        "run_id": RUN,
        "workload": "digits-cnn",
        "data": {"source": "scikit-learn digits", "rows": 1797, "sha256": "0" * 64},
        "emulated": True,
        "devices": [{"node": node, "name": name, "standalone_samples_per_second": rate} for node, name, _, rate in DEVICES],
        "cases": cases,
        "warnings": [],
    }
