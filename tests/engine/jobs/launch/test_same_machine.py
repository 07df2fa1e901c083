"""One machine under two names is found by what cannot be equal on two machines."""

from __future__ import annotations

from paceline.engine.events import DeviceReading, NodeConnected
from paceline.engine.jobs.launch.same_machine import shared_devices

GPU = DeviceReading(index=0, name="RTX 3060", kind="cuda", uuid="GPU-1")
CPU = DeviceReading(index=0, name="a processor", kind="cpu")


def hello(boot_id: str = "b", pid_namespace: str = "pid:[1]") -> NodeConnected:
    return NodeConnected(boot_id=boot_id, pid_namespace=pid_namespace)


def test_a_gpu_under_two_names_is_named_with_both() -> None:
    (shared,) = shared_devices([("a", GPU), ("b", GPU)], {"a": hello(), "b": hello(pid_namespace="pid:[2]")})
    assert str(shared) == "a and b are two names of one machine: both have its device 0 (RTX 3060)"


def test_a_processor_is_the_same_only_in_one_process_namespace() -> None:
    assert len(shared_devices([("a", CPU), ("b", CPU)], {"a": hello(), "b": hello()})) == 1
    assert shared_devices([("a", CPU), ("b", CPU)], {"a": hello(), "b": hello(pid_namespace="pid:[2]")}) == []
    assert shared_devices([("a", CPU), ("b", CPU)], {"a": hello(), "b": hello("another")}) == []


def test_what_is_unknown_or_emulated_is_never_the_same() -> None:
    emulated, unknown = DeviceReading(kind="emulated", uuid="GPU-1"), DeviceReading(kind="cuda")
    for device in (emulated, unknown):
        assert shared_devices([("a", device), ("b", device)], {"a": hello(), "b": hello()}) == []
    assert shared_devices([("a", GPU), ("b", GPU)], {"a": hello()}) == []
    assert shared_devices([("a", GPU), ("b", GPU)], {"a": hello(""), "b": hello("")}) == []
    assert shared_devices([("a", GPU), ("a", GPU)], {"a": hello()}) == [], "one name"
