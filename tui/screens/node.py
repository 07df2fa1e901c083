"""The page of one node: its machine, devices, processes and alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from paceline.engine.store.state import NodeState, State
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..terminal.format import sanitize
from ..theme import PALETTE
from ..views.drawing.lines import line
from ..views.fleet.device_facts import DeviceUse, device_use
from ..views.fleet.order import device_at_key, device_table, row_key
from ..views.fleet.rows import fleet_heading, fleet_row
from ..views.node import device_facts, disk_lines, host_lines, network_lines, node_alerts, node_head, process_lines
from ..widgets.line_canvas import DrawLines, LineCanvas, RowList
from .base_screen import BaseScreen


class NodeScreen(BaseScreen):
    """Opened by Enter from Fleet, Profiles or Run; Escape returns there."""

    FOOTER_KEYS = (
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
        Binding("K", "kill", "kill a process of your own on this device, after a confirmation", id="node.kill"),
        Binding("escape,backspace", "back", "back to where one came from", id="node.back"),
    ]

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node
        self._use = DeviceUse({}, frozenset())
        self._rows = RowList(lambda width: fleet_heading(width), self._draw_row)

    @property
    def tab(self) -> str:
        """The screen below this page."""
        return self.app.current_mode

    def compose_body(self) -> Iterable[Widget]:
        yield LineCanvas(self._node_lines(node_head), widget_id="identity")
        with Horizontal(id="machine"):
            yield LineCanvas(self._node_lines(host_lines), "machine", "host")
            yield LineCanvas(self._node_lines(disk_lines), "disks", "disks")
            yield LineCanvas(self._node_lines(network_lines), "links", "links")
        yield self._rows
        yield LineCanvas(self._draw_facts, widget_id="facts")
        yield LineCanvas(self._draw_processes, "processes", "processes")
        yield LineCanvas(self._node_lines(node_alerts), "alerts", "alerts")

    def update_view(self, view: View) -> None:
        node = view.state.nodes.get(self.node)
        self._use = device_use(view.state)
        devices = len(node.devices) if node is not None else 0
        height = self.size.height
        self._rows.styles.height = min(max(devices, 1) + 1, max(2, height // 3))
        self._rows.update_rows(view, [row_key(self.node, place) for place in range(devices)] or [row_key(self.node, -1)])
        super().update_view(view)

    def export_table(self) -> Sequence[Sequence[object]]:
        return device_table(self.host.view.state, self._use, self._rows.keys)

    def on_row_list_highlighted(self, message: RowList.Highlighted) -> None:
        super().update_view(self.host.view)

    def on_row_list_selected(self, message: RowList.Selected) -> None:
        self.host.show_run_of_device(message.key)

    def action_kill(self) -> None:
        """Kill the process of the device under the cursor, after a confirmation; with several the prompt asks for the PID."""
        _, device = device_at_key(self.host.view.state, self._rows.cursor_key or row_key(self.node, -1))
        pids = sorted({process.pid for process in device.reading.processes or ()}) if device is not None else []
        if self.host.is_read_only:
            self.host.show_notice("this session is read-only: kill refused", "ok")
        elif not pids:
            self.host.show_notice("no process is known on this device; :kill NODE PID kills any of your own", "ok")
        elif len(pids) > 1:
            self.host.open_prompt(f"kill {self.node} ")
        else:
            self.host.execute(f"kill {self.node} {pids[0]}")

    def action_back(self) -> None:
        self.dismiss()

    def _node_lines(self, draw: Callable[[State, NodeState, int, int], list[Strip]]) -> DrawLines:
        def drawn(view: View, width: int, height: int) -> Sequence[Strip]:
            node = view.state.nodes.get(self.node)
            if node is None:
                return [line(width, (f"{sanitize(self.node)} is no longer in nodes.toml", PALETTE.dim))]
            return draw(view.state, node, width, height)

        return drawn

    def _draw_facts(self, view: View, width: int, height: int) -> Sequence[Strip]:
        node, device = device_at_key(view.state, self._rows.cursor_key or row_key(self.node, -1))
        return device_facts(node, device, width, height) if node is not None else []

    def _draw_processes(self, view: View, width: int, height: int) -> Sequence[Strip]:
        node = view.state.nodes.get(self.node)
        return process_lines(view.state, self._use, node, width, height) if node is not None else []

    def _draw_row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        return fleet_row(view, self._use, key, width, is_under_cursor=is_under_cursor, is_alone=True)
