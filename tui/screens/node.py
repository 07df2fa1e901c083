"""One node: its machine, its devices with everything they say, who uses them, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from paceline.engine.store.state import NodeState, State
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..terminal.format import untrusted
from ..theme import PALETTE
from ..views.drawing.lines import line
from ..views.fleet.device_facts import Scene, scene_of
from ..views.fleet.order import device_of_key, key_of
from ..views.fleet.rows import fleet_heading, fleet_row
from ..views.node import device_facts, disk_lines, host_lines, link_lines, node_alerts, node_head, process_lines
from ..widgets.line_canvas import Draw, LineCanvas, RowList
from .base_screen import BaseScreen


class NodeScreen(BaseScreen):
    """Reached from the fleet, profiles or a run by Enter; Escape goes back there."""

    KEYS = (
        ("node.back", "back"),
        ("list.choose", "its run"),
        ("command", "command"),
        ("help", "help"),
        ("pause", "pause"),
        ("quit", "quit"),
        ("node.kill", "kill"),
        ("cancel", "cancel"),
        ("export", "export"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("K", "kill", "end a process of yours on this device, after a question", id="node.kill"),
        Binding("escape,backspace", "back", "back to where one came from", id="node.back"),
    ]

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node
        self._scene = Scene({}, frozenset())
        self._rows = RowList(lambda width: fleet_heading(width, is_alone=True), self._row)

    @property
    def place(self) -> str:
        """The screen under this page."""
        return self.deck.current_mode

    def body(self) -> Iterable[Widget]:
        yield LineCanvas(self._of_node(node_head), widget_id="identity")
        with Horizontal(id="machine"):
            yield LineCanvas(self._of_node(host_lines), "machine", "host")
            yield LineCanvas(self._of_node(disk_lines), "disks", "disks")
            yield LineCanvas(self._of_node(link_lines), "links", "links")
        yield self._rows
        yield LineCanvas(self._facts, widget_id="facts")
        yield LineCanvas(self._processes, "processes", "processes")
        yield LineCanvas(self._of_node(node_alerts), "alerts", "alerts")

    def show(self, view: View) -> None:
        node = view.state.nodes.get(self.node)
        self._scene = scene_of(view.state)
        devices = len(node.devices) if node is not None else 0
        height = self.size.height
        self._rows.styles.height = min(max(devices, 1) + 1, max(2, height // 3))
        self._rows.tell(view, [key_of(self.node, place) for place in range(devices)] or [key_of(self.node, -1)])
        super().show(view)

    def on_rows_moved(self, message: RowList.Moved) -> None:
        super().show(self.deck.view)

    def on_rows_chosen(self, message: RowList.Chosen) -> None:
        self.deck.look_at_device(message.key)

    def action_kill(self) -> None:
        """Ask about the one process of the device under the cursor; of several the prompt takes the number, completed by Tab."""
        _, device = device_of_key(self.deck.view.state, self._rows.key or key_of(self.node, -1))
        pids = sorted({process.pid for process in device.reading.processes or ()}) if device is not None else []
        if self.deck.is_read_only:
            self.deck.show_notice("this session is read-only: nothing is ended", "ok")
        elif not pids:
            self.deck.show_notice("no process is seen on this device; :kill NODE PID takes any of yours", "ok")
        elif len(pids) > 1:
            self.deck.open_prompt(f"kill {self.node} ")
        else:
            self.deck.execute(f"kill {self.node} {pids[0]}")

    def action_back(self) -> None:
        self.dismiss()

    def _of_node(self, draw: Callable[[State, NodeState, int, int], list[Strip]]) -> Draw:
        def drawn(view: View, width: int, height: int) -> Sequence[Strip]:
            node = view.state.nodes.get(self.node)
            if node is None:
                return [line(width, (f"{untrusted(self.node)} is no longer in nodes.toml", PALETTE.dim))]
            return draw(view.state, node, width, height)

        return drawn

    def _facts(self, view: View, width: int, height: int) -> Sequence[Strip]:
        node, device = device_of_key(view.state, self._rows.key or key_of(self.node, -1))
        return device_facts(node, device, width, height) if node is not None else []

    def _processes(self, view: View, width: int, height: int) -> Sequence[Strip]:
        node = view.state.nodes.get(self.node)
        return process_lines(view.state, self._scene, node, width, height) if node is not None else []

    def _row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        return fleet_row(view, self._scene, key, width, is_under_cursor, is_alone=True)
