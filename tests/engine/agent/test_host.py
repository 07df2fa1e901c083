"""Host readings: processor, memory, disks and links, on Linux, on other systems, and with file servers that do not answer."""

from __future__ import annotations

import os
import sys
import threading
import types
from pathlib import Path

import pytest
from paceline.engine.agent.system.state_dir import disk_free
from paceline.engine.agent.telemetry import busy_processes, disks, host, network
from paceline.engine.agent.telemetry.disks import Disks, parse_mounts
from paceline.engine.agent.telemetry.host import Host
from paceline.engine.agent.telemetry.network import INTERFACES_EVERY_READINGS, NetworkCounters
from paceline.engine.events import DiskReading, HostProcess, HostReading, LinkReading, NodeReported
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import State

NET_HEAD = "Inter-|   Receive  |  Transmit\n face |bytes packets\n"
MEMINFO = "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  400 kB\nSwapTotal:  50 kB\nSwapFree:  20 kB\n"


class Machine:
    """A fake /proc and /sys."""

    def __init__(self, root: Path) -> None:
        self.proc, self.sys = root / "proc", root / "sys"
        (self.proc / "net").mkdir(parents=True)
        (self.proc / "self").mkdir()
        self.write("meminfo", MEMINFO)
        self.write("self/mounts", "")
        self.work(busy=0, idle=0)
        self.carry(eth0=(0, 0))

    def write(self, name: str, text: str) -> None:
        (self.proc / name).write_text(text)

    def work(self, busy: int, idle: int, waiting: int = 0) -> None:
        """Set the ticks since boot. The guest fields at the end are included in the first and must not count twice."""
        self.write("stat", f"cpu  {busy} 0 0 {idle} {waiting} 0 0 0 {busy} 0\ncpu0 1 1 1 1\n")

    def carry(self, **counters: tuple[int, int]) -> None:
        """Set the bytes received and sent, by interface."""
        lines = (f"{name:>6}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n" for name, (received, sent) in counters.items())
        self.write("net/dev", NET_HEAD + "".join(lines))

    def card(self, name: str, megabits: str) -> None:
        """Add a hardware interface."""
        (self.sys / "class/net" / name / "device").mkdir(parents=True)
        (self.sys / "class/net" / name / "speed").write_text(megabits)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets, in seconds."""
    now = [1000.0]
    for module in (network, disks):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_utilization_is_the_share_not_idle_since_the_last_reading(machine: Machine, tmp_path: Path) -> None:
    reader = Host(tmp_path, machine.proc)
    assert reader.read().cpu is None
    machine.work(busy=30, idle=60, waiting=10)
    assert reader.read().cpu == 0.3
    assert reader.read().cpu is None  # no time has passed: unknown
    machine.work(busy=130, idle=60, waiting=10)
    assert reader.read().cpu == 1.0


def test_memory_swap_and_free_space_are_in_bytes(machine: Machine, tmp_path: Path) -> None:
    reading = Host(tmp_path, machine.proc).read()
    assert (reading.memory_used, reading.memory_total) == (600 << 10, 1000 << 10)
    assert (reading.swap_used, reading.swap_total) == (30 << 10, 50 << 10)
    assert reading.disk_free == pytest.approx(disk_free(tmp_path), rel=0.1)
    assert reading.cores == os.cpu_count()


def test_values_that_proc_does_not_have_are_unknown(machine: Machine, tmp_path: Path) -> None:
    machine.write("meminfo", "MemTotal: 1000 kB\nSwapTotal: many kB\n")
    machine.write("stat", "cpu  1 2\n")
    reader = Host(tmp_path, machine.proc)
    reading = reader.read()
    assert (reading.cpu, reading.memory_used, reading.memory_total) == (None, None, 1000 << 10)
    assert (reading.swap_used, reading.swap_total) == (None, None)


def test_without_proc_psutil_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = types.SimpleNamespace(idle=5.0)
    psutil = types.ModuleType("psutil")
    psutil.cpu_times = lambda: _Times(10.0, times.idle)  # type: ignore[attr-defined]  # the module is a fake
    psutil.virtual_memory = lambda: types.SimpleNamespace(total=100, available=30)  # type: ignore[attr-defined]  # the module is a fake
    psutil.swap_memory = lambda: types.SimpleNamespace(total=20, free=20)  # type: ignore[attr-defined]  # the module is a fake
    psutil.boot_time = lambda: 0.0  # type: ignore[attr-defined]  # the module is a fake
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    reader = Host(tmp_path, tmp_path / "no-proc")
    assert reader.read().cpu is None
    times.idle = 8.0
    reading = reader.read()
    assert (reading.memory_used, reading.memory_total, reading.swap_used) == (70, 100, 0)
    assert reading.uptime is not None


class _Times(tuple[float, float]):
    """psutil's cpu_times: a tuple with the field ``idle``."""

    def __new__(cls, busy: float, idle: float) -> _Times:
        return super().__new__(cls, (busy, idle))

    @property
    def idle(self) -> float:
        return float(self[1])


def test_without_proc_and_psutil_only_free_space_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_psutil", lambda: None)
    reading = Host(tmp_path, tmp_path / "no-proc").read()
    assert (reading.cpu, reading.memory_used, reading.memory_total, reading.disks, reading.links) == (None, None, None, (), ())
    assert reading.disk_free is not None


def test_links_are_rates_between_two_readings(machine: Machine, clock: list[float]) -> None:
    machine.card("eth0", "10000\n")
    machine.carry(lo=(9, 9), eth0=(1000, 2000), docker0=(5, 5))
    reader = NetworkCounters(machine.proc, machine.sys)
    assert reader.read() == (LinkReading("eth0", None, None, 1e10),)
    clock[0] += 2.0
    machine.carry(lo=(9, 9), eth0=(5000, 2600), docker0=(5, 5))
    assert reader.read() == (LinkReading("eth0", 2000.0, 300.0, 1e10),)


def test_without_hardware_links_all_but_loopback_are_read_without_speed(machine: Machine, clock: list[float]) -> None:
    machine.carry(lo=(1, 1), eth0=(1, 1), eth1=(1, 1))
    assert [(link.interface, link.speed) for link in NetworkCounters(machine.proc, machine.sys).read()] == [
        ("eth0", None),
        ("eth1", None),
    ]


def test_a_reset_counter_gives_no_rate_and_a_new_link_is_found(machine: Machine, clock: list[float]) -> None:
    machine.card("eth0", "-1\n")
    machine.carry(eth0=(1000, 1000))
    reader = NetworkCounters(machine.proc, machine.sys)
    reader.read()
    clock[0] += 1.0
    machine.card("ib0", "200000\n")
    machine.carry(eth0=(10, 1500), ib0=(0, 0))
    assert reader.read() == (LinkReading("eth0", None, 500.0, None),)
    for _ in range(INTERFACES_EVERY_READINGS):
        clock[0] += 1.0
        found = reader.read()
    assert [link.interface for link in found] == ["eth0", "ib0"]
    machine.carry(ib0=(0, 0))
    assert [link.interface for link in reader.read()] == ["ib0"]


def test_disks_and_file_servers_are_read_and_file_systems_in_memory_are_not() -> None:
    mounts = """proc /proc proc rw 0 0
overlay / overlay rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
/dev/loop3 /snap/core/1 squashfs ro 0 0
/dev/nvme0n1p2 /scratch ext4 rw 0 0
/dev/nvme0n1p2 /home/bound ext4 rw 0 0
store.lab:/data /mnt/data\\040sets nfs4 rw 0 0
tank /tank zfs rw 0 0
tank/home /tank/home zfs rw 0 0
"""
    assert [(disk.mount, disk.source) for disk in parse_mounts(mounts)] == [
        ("/", "overlay"),
        ("/scratch", "/dev/nvme0n1p2"),
        ("/tank", "tank"),
        ("/mnt/data sets", "store.lab:/data"),
    ]


def test_a_file_server_that_hangs_is_unknown_and_blocks_nothing(
    machine: Machine, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = threading.Event(), threading.Event()

    def statvfs(mount: str) -> types.SimpleNamespace:
        if mount == "/mnt" and clock[0] > 1000.0:
            asked.set()
            answers.wait(60)
        return types.SimpleNamespace(f_blocks=10, f_bfree=4 if mount == "/" else 6, f_frsize=100)

    monkeypatch.setattr(disks, "os", types.SimpleNamespace(statvfs=statvfs))
    machine.write("self/mounts", "/dev/sda1 / ext4 rw 0 0\nstore:/data /mnt nfs rw 0 0\n")
    reader = Disks(machine.proc)
    root, server = DiskReading("/", "/dev/sda1", 600, 1000), DiskReading("/mnt", "store:/data", 400, 1000)
    reader.read()  # starts a scan
    _wait_for_scan(reader)
    assert reader.read() == (root, server)
    clock[0] += disks.DISK_SCAN_INTERVAL_S
    assert reader.read() == (root, server)
    assert asked.wait(60)
    clock[0] += disks.STATVFS_TIMEOUT_S
    assert reader.read() == (root, DiskReading("/mnt", "store:/data"))
    answers.set()
    _wait_for_scan(reader)
    assert reader.read() == (root, server)


def test_a_server_that_is_mounted_once_per_user_is_one_file_system(machine: Machine) -> None:
    machine.write("self/mounts", f"store:/home/ann {machine.proc} nfs rw 0 0\nstore:/home/bob {machine.proc} nfs rw 0 0\n")
    reader = Disks(machine.proc)
    reader.read()
    _wait_for_scan(reader)
    assert [disk.source for disk in reader.read()] == ["store:/home/ann"]


def _wait_for_scan(reader: Disks) -> None:
    assert reader._scan_thread is not None
    reader._scan_thread.join(60)
    assert not reader._scan_thread.is_alive()


def process(machine: Machine, pid: int, ticks: int, name: str = "python", started: int = 5) -> None:
    """Write the status of a process: its ticks of processor time and 100 pages of memory."""
    (machine.proc / str(pid)).mkdir(exist_ok=True)
    fields = ["S", "1", *["0"] * 9, str(ticks), "0", *["0"] * 6, str(started), "0", "100"]
    machine.write(f"{pid}/stat", f"{pid} ({name}) {' '.join(fields)} 0 0\n")


def test_each_core_and_the_busiest_processes_are_told_with_every_fifth_reading(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, second = [100.0], os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(busy_processes, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    process(machine, 7, 1000)
    process(machine, 8, 0, name="a (strange) one")
    machine.write("9", "no process")
    machine.write("stat", "cpu  0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\nintr 1\n")
    reader = Host(tmp_path, machine.proc)
    first = reader.read()
    assert (first.core_use, [one.cpu for one in first.processes or ()]) == (None, [None, None])
    assert all((reading := reader.read()).core_use is None and reading.processes is None for _ in range(4))
    now[0] += 5.0
    process(machine, 7, 1000 + 10 * second)
    process(machine, 8, 1 * second, name="a (strange) one")
    process(machine, 9000, 50 * second)  # new: unknown
    machine.write("stat", "cpu  9 0 0 9 0 0 0 0\ncpu0 75 0 0 25 0 0 0 0\ncpu1 0 0 0 100 0 0 0 0\nintr 1\n")
    again = reader.read()
    assert again.core_use == (75, 0)
    assert [(one.pid, one.name, one.cpu) for one in again.processes or ()] == [
        (7, "python", 2.0),
        (8, "a (strange) one", 0.2),
        (9000, "python", None),
    ]
    assert (again.processes or ())[0].memory == 100 * os.sysconf("SC_PAGE_SIZE")


def test_processes_of_this_machine_are_found_with_their_user(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc")
    found = Host(tmp_path).read().processes
    assert found
    assert all(one.pid > 0 and one.user and one.name for one in found)
    assert len(found) <= busy_processes.MAX_BUSY_PROCESSES


def test_a_scan_that_takes_long_is_made_less_often(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.2, 30.0, 50.0, 50.1])  # the first scan takes 0.2 s: no other one within 40 s
    monkeypatch.setattr(busy_processes, "time", types.SimpleNamespace(monotonic=lambda: next(ticks)))
    process(machine, 7, 1000)
    scanner = busy_processes.BusyProcesses(machine.proc)
    assert [found is not None for found in (scanner.read(), scanner.read(), scanner.read())] == [True, False, True]


def test_cores_and_processes_hold_until_they_are_read_again() -> None:
    busy = HostProcess(7, "eve", "python", 1.0)
    state = State()
    for host_reading in (HostReading(core_use=(50,), processes=(busy,)), HostReading(cpu=0.3), HostReading(core_use=(60,))):
        state = reduce(state, NodeReported(node="a", host=host_reading))
    assert state.nodes["a"].host.core_use == (60,)
    assert state.nodes["a"].host.processes == (busy,)
