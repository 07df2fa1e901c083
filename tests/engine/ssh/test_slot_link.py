"""A slot is connected for as long as its login node is, and speaks over its one connection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from paceline.engine.errors import NodeRefused
from paceline.engine.events import Event, NodeConnected, NodeDenied, NodeLost, NodeReported
from paceline.engine.specs import DeviceSpec, Inventory, NodeSpec, SlotSpec
from paceline.engine.ssh.fleet import Fleet

from tests.support.waiting import until


class Login:
    """A link to a login node that notes what it is asked."""

    root, home, python, bundle = "/shared/hpc", "/home/ann", "/opt/python", "/shared/hpc/bundles/x.zip"

    def __init__(self) -> None:
        self.hello = NodeConnected(node="hpc", hostname="login", address="10.0.0.1", boot_id="b", pid_namespace="1")
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked: list[dict[str, Any]] = []

    async def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        self.asked.append({"kind": kind, **body})
        return {}

    async def close(self) -> None:
        return None


def inventory(tmp_path: Path) -> Inventory:
    login = NodeSpec("hpc", kind="slurm", read_only=True)
    emulated = NodeSpec("hpc-a-1", kind="slurm", slot=SlotSpec("hpc", "A"), devices=(DeviceSpec("A", 1.0, 1 << 30),))
    real = NodeSpec("hpc-b-1", kind="slurm", slot=SlotSpec("hpc", "B100", gpus=2, memory=1 << 30))
    return Inventory(str(tmp_path / "nodes.toml"), (login, emulated, real))


async def test_slots_come_and_go_with_their_login_node_and_ask_over_its_link(tmp_path: Path) -> None:
    events: list[Event] = []
    logins: list[Login | NodeRefused] = []
    fleet = Fleet(inventory(tmp_path), events.append)

    async def open_link(*words: Any, **options: Any) -> Any:
        await until(lambda: logins)
        login = logins.pop(0)
        if isinstance(login, NodeRefused):
            raise login
        return login

    fleet._open = open_link  # type: ignore[method-assign]
    await fleet.start()
    try:
        first, second = Login(), Login()
        logins.append(first)
        link = await fleet.link("hpc-b-1")
        assert (link.node, link.root, link.data_root) == ("hpc-b-1", "/shared/hpc/nodes/hpc-b-1", "/shared/hpc")
        await link.ask("list_runs")
        assert first.asked == [{"kind": "list_runs", "slot": "hpc-b-1"}]
        assert (fleet.login_of("hpc-b-1"), fleet.login_of("hpc"), fleet.login_of("x")) == ("hpc", None, None)
        await until(lambda: {"hpc-a-1", "hpc-b-1"} <= {one.node for one in events if isinstance(one, NodeReported)})
        reported = {one.node: one for one in events if isinstance(one, NodeReported)}
        assert [(one.name, one.kind) for one in reported["hpc-b-1"].devices] == [("B100", "cuda")] * 2
        assert [one.kind for one in reported["hpc-a-1"].devices] == ["emulated"]
        hello = next(one for one in events if isinstance(one, NodeConnected) and one.node == "hpc-a-1")
        assert (hello.address, hello.pid_namespace) == ("", "")
        first.lost.set_result("cut")
        await until(lambda: {one.node for one in events if isinstance(one, NodeLost)} == {"hpc", "hpc-a-1", "hpc-b-1"})
        logins.append(second)
        await until(lambda: sum(isinstance(one, NodeConnected) and one.node == "hpc-a-1" for one in events) == 2)
        await (await fleet.link("hpc-a-1")).ask("list_runs")
        assert second.asked
    finally:
        await fleet.close()


async def test_a_refused_login_node_refuses_its_slots(tmp_path: Path) -> None:
    events: list[Event] = []
    fleet = Fleet(inventory(tmp_path), events.append)

    async def refuse(*words: Any, **options: Any) -> Any:
        raise NodeRefused("its host key has changed", node="hpc")

    fleet._open = refuse  # type: ignore[method-assign]
    await fleet.start()
    try:
        denied = await until(lambda: found if len(found := [one for one in events if isinstance(one, NodeDenied)]) == 3 else None)
        assert all("host key has changed" in one.reason for one in denied)
    finally:
        await fleet.close()
