"""Made-up fleets for tests: a lab with every kind of trouble, and as many alike nodes as asked. Nothing in them was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator

from paceline.engine.events import (
    DeviceReading,
    DiskReading,
    Event,
    HostProcess,
    HostReading,
    InventoryRead,
    LinkReading,
    NodeConnected,
    NodeConnecting,
    NodeDenied,
    NodeLost,
    NodeReported,
    NodeSummary,
    ProcessReading,
    RankSummary,
    RunPlanned,
    Ticked,
)

GIB = 1024**3
CLOCK = 1_795_183_200.0
RUN = "20261120-140200-k7p3xa"


def crowd(nodes: int, devices: int, seconds: int = 40) -> list[Event]:
    """Nodes of one kind, each device with a life of its own: some idle, some hot, one fallen off the bus, one node lost."""
    names = [f"n{number:03}" for number in range(nodes)]
    events: list[Event] = [InventoryRead(path="crowd/nodes.toml", lab="crowd", nodes=tuple(NodeSummary(name) for name in names))]
    events += [NodeConnected(at=0.5, node=name, hostname=name, python="3.12.3", system="Linux 6.8") for name in names]
    lost = names[nodes * 2 // 3]
    for second in range(1, seconds + 1):
        events.append(Ticked(at=float(second), clock=CLOCK + second))
        for place, name in enumerate(names):
            if name == lost and second > seconds // 2:
                continue
            events.append(crowd_report(place, name, devices, second))
        if second == seconds // 2 + 1:
            events.append(NodeLost(at=float(second), node=lost, reason="connection reset by peer"))
    return events


def crowd_report(place: int, name: str, devices: int, second: int) -> NodeReported:
    """The readings of one node of a crowd at one second."""
    host = HostReading(0.4, 200 * GIB, 512 * GIB, 900 * GIB, 64, 21.5)
    readings = tuple(_h100(place, index, second) for index in range(devices))
    return NodeReported(at=second + 0.2, node=name, host=host, devices=readings)


def _h100(place: int, index: int, second: int) -> DeviceReading:
    seed = place * 8 + index
    if seed == 45:
        return DeviceReading(index, "H100 80GB HBM3", "cuda", memory_total=80 * GIB, error="fell off the bus")
    wave = 0.5 + 0.5 * math.sin(seed * 1.7 + second * (0.05 + 0.02 * (seed % 5)))
    busy = (0.0 if seed % 7 == 3 else 0.35 + 0.64 * wave) if seed % 3 else 0.9 + 0.09 * wave
    is_hot = seed % 97 == 11
    return DeviceReading(
        index,
        "H100 80GB HBM3",
        "cuda",
        busy,
        int((2 + 70 * busy) * GIB),
        80 * GIB,
        87.0 if is_hot else 34.0 + 40 * busy,
        70.0 + 600 * busy,
        700.0,
        1110.0 if is_hot and second > 20 else 1980.0 if busy else 345.0,
        ("thermal",) if is_hot else (),
        (ProcessReading(4000 + index, ("ada", "grace", "alan")[seed % 3], "python", int(60 * busy * GIB)),) if busy else (),
    )


def lab() -> list[Event]:
    """Eleven unlike nodes: lost, refused, stale, still connecting, too hot, fallen off the bus, shared, free."""
    names = ("atlas", "hera", "hades", "lab1", "lab2", "lab3", "lab4", "lab5", "lab6", "lab7", "nyx")
    events: list[Event] = [InventoryRead(path="cs-lab/nodes.toml", lab="cs-lab", nodes=tuple(NodeSummary(name) for name in names))]
    events += [NodeConnecting(at=0.1, node=name) for name in names]
    for name in names[:-1]:
        events.append(
            NodeConnected(
                at=0.6,
                node=name,
                hostname=f"{name}.cs.example",
                python="3.11.9",
                system="Linux 6.8.0-60-generic",
                address="10.1.4.7",
                interface="enp65s0",
            )
        )
    events.append(NodeConnecting(at=3.0, node="nyx", attempt=3))
    ranks = (RankSummary(0, "atlas", 0, "RTX 4090", "cuda"), RankSummary(1, "lab3", 0, "GTX 1650", "cuda"))
    events.append(RunPlanned(at=4.0, run_id=RUN, workload="digits-cnn", cases=("hybrid",), ranks=ranks, epochs=8))
    for second in range(1, 41):
        events.append(Ticked(at=float(second), clock=CLOCK + second))
        events += _lab_second(second)
    return events


def _lab_second(second: int) -> Iterator[Event]:
    wave = 0.02 * math.sin(second * 1.3)

    def report(name: str, *devices: DeviceReading) -> NodeReported:
        return NodeReported(at=second + 0.1, node=name, host=_host(second), devices=devices)

    ours = ProcessReading(20411, "eve", "python", int(11.2 * GIB), RUN, rank=0)
    desktop = ProcessReading(2911, "eve", "gnome-shell", GIB // 5, is_graphics=True)
    first = _device(0, "RTX 4090", 0.97 + wave, 12.6, 24, 66, 402, 450, 2610, (ours, desktop))
    yield report("atlas", first, _device(1, "RTX 4090", 0.0, 0.4, 24, 34, 22, 450, 210, ()))
    others = tuple(ProcessReading(7000 + n, user, "python3.12", 3 * GIB) for n, user in enumerate(("bob", "carol", "dan", "eve")))
    yield report("hera", *(_device(n, "A100-SXM4-80GB", 0.6 + wave, 31, 80, 51, 240, 400, 1410, others[n:]) for n in range(4)))
    gone = DeviceReading(0, "RTX 3090", "cuda", memory_total=24 * GIB, error="fell off the bus")
    yield report("hades", gone)
    is_hot = second > 20
    hot = ("thermal",) if is_hot else ()
    clock = 1110 if is_hot else 1665
    mine = (ProcessReading(991, "eve", "python", 3 * GIB, RUN, rank=1),)
    yield report("lab3", _device(0, "GTX 1650", 0.97 + wave, 3.6, 4, 87 if is_hot else 71, 71, 75, clock, mine, hot))
    if second < 31:
        yield report("lab7", _device(0, "RTX 3060", 0.41 + wave, 6.1, 12, 58, 80, 170, 1807, ()))
    if second < 25:
        yield report("lab6", _device(0, "RTX 2060", 0.2 + wave, 1.1, 6, 50, 60, 160, 1500, None))
    if second == 25:
        yield NodeLost(at=second + 0.3, node="lab6", reason="connection reset by peer")
    if second == 2:
        yield NodeDenied(at=second + 0.3, node="lab5", reason="permission denied for eve", hint="ssh lab5 by hand shows why")
    for name in ("lab1", "lab2", "lab4"):
        yield report(name, _device(0, "RTX 3050", 0.0, 0.3, 8, 38, 12, 130, 210, ()))


def _device(
    index: int,
    name: str,
    busy: float,
    used: float,
    total: int,
    heat: float,
    power: float,
    limit: float,
    clock: float,
    processes: tuple[ProcessReading, ...] | None,
    throttle: tuple[str, ...] = (),
) -> DeviceReading:
    state = 2 if busy > 0.1 else 8
    return DeviceReading(
        index,
        name,
        "cuda",
        min(1.0, max(0.0, busy)),
        int(used * GIB),
        total * GIB,
        heat,
        power,
        limit,
        clock,
        throttle,
        processes,
        memory_clock=10501.0,
        fan=0.61,
        pcie=(4, 16, 4, 16),
        ecc_errors=0,
        performance_state=state,
    )


def _host(second: int) -> HostReading:
    disks = (
        DiskReading("/", "/dev/nvme0n1p2", 310 * GIB, 460 * GIB),
        DiskReading("/scratch", "/dev/md0", 3521 * GIB, 3600 * GIB),
        DiskReading("/home", "nas:/export/home", None, None),
    )
    links = (
        LinkReading("enp65s0", 118.0e6 + 1e6 * math.sin(second), 42.0e6, 10e9),
        LinkReading("eno1", 1200.0, 830.0, 1e9),
        LinkReading("docker0", 0.0, 0.0, None),
    )
    cores = tuple(round(50 + 45 * math.sin(second + core)) for core in range(32))
    busy = (
        HostProcess(811, "root", "backupd", 3.4, 900 << 20),
        HostProcess(4711, "eve", "python", 1.02, 11 * GIB, "20261120-140200-k7p3xa"),
    )
    return HostReading(0.62, 41 * GIB, 128 * GIB, 90 * GIB, 32, 19.4, GIB, 8 * GIB, 12 * 86400.0, disks, links, cores, busy)
