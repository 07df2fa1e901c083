"""The Fleet screen: a filtered list of all devices, with history curves or a heat map where there is room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from paceline.engine.store.state import State
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..views.fleet.device_facts import DeviceUse, device_use
from ..views.fleet.heat_map import device_at, heat_lines, heat_map_layout
from ..views.fleet.history_cards import history_cards
from ..views.fleet.order import FLEET_ORDERS, FleetListing, FleetQuery, device_table, list_devices
from ..views.fleet.rows import fleet_heading, fleet_row, fleet_summary, hidden_line
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import TALL_MIN_LINES
from .list_screen import ListScreen, list_bindings
from .node import NodeScreen

CARDS_MIN_LINES = 10
"""Lines left below the list from which history cards are drawn."""
LIST_MIN_LINES = 9
"""Lines that the list keeps beside cards or heat map, heading included."""
DENSITIES = ("cards", "lines", "heat")
"""For few devices, some, and hundreds. Selected by the room there is, unless the person selects one."""


class FleetScreen(ListScreen):
    """The devices of all nodes, worst first."""

    NAME = "fleet"
    ORDERS = FLEET_ORDERS
    FILTER_EXAMPLE = "util<20 & free    job:*    node:lab[1-3]    straggler"
    FOOTER_KEYS = (
        ("command", "command"),
        ("fleet.filter", "filter"),
        ("help", "help"),
        ("fleet.faults", "faults"),
        ("fleet.order", "order"),
        ("fleet.density", "density"),
        ("list.choose", "node"),
        ("quit", "quit"),
        ("start", "start"),
        ("fleet.mark", "mark"),
        ("pause", "pause"),
        ("export", "export"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *list_bindings("fleet", "util<20 & free   job:*   node:lab[1-3]", "clear the filter, then the marks, else back"),
        Binding("f", "faults", "faults only, or all", id="fleet.faults"),
        Binding("x", "reveal", "show what is hidden", id="fleet.reveal"),
        Binding("space", "mark", "mark a device: + starts a job on those marked", id="fleet.mark"),
        Binding("u", "sort('user')", "group by user", id="fleet.users"),
        Binding("d", "density", "curves, lines or heat map", id="fleet.density"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.is_faults_only = False
        self.listing = FleetListing()
        self.density = ""
        """The density that the person selected; empty: automatic."""
        self._use = DeviceUse({}, frozenset())
        self._used_runs: object = None
        """The runs from which ``_use`` was computed."""
        self._nodes_shape: object = None
        self._listing_inputs: object = None
        self._heat_map: tuple[object, Sequence[Strip]] = (None, ())
        """Its inputs and its lines."""
        self._rows = RowList(lambda width: fleet_heading(width, self.order), self._draw_row)

    def export_table(self) -> Sequence[Sequence[object]]:
        return device_table(self.host.view.state, self._use, self.listing.keys)

    @property
    def fleet_query(self) -> FleetQuery:
        """Order and filters of the list."""
        return FleetQuery(self.order, self.is_faults_only, self.filter_text, self.passes)

    def compose_body(self) -> Iterable[Widget]:
        yield LineCanvas(self._draw_summary, widget_id="summary")
        yield LineCanvas(self._draw_heat_map, widget_id="heat")
        yield from self.compose_list(self._rows)
        yield LineCanvas(
            lambda view, width, height: history_cards(view, self.listing.keys, width, height), "utilization", widget_id="cards"
        )

    # Drawing --------------------------------------------------------------------------------------------------------------

    def update_view(self, view: View) -> None:
        state = view.state
        if state.runs is not self._used_runs:
            self._used_runs, self._use = state.runs, device_use(state)
        # Sorting 2,048 devices at every frame would cost more than drawing the visible ones: once a second is enough.
        self._nodes_shape = tuple((node.name, node.state, len(node.devices)) for node in state.nodes.values())
        inputs = (int(state.at), self.fleet_query, self._nodes_shape)
        if inputs != self._listing_inputs:
            self._listing_inputs, self.listing = inputs, list_devices(state, self._use, self.fleet_query)
        self._divide_height(state)
        for canvas in self.query(LineCanvas):
            if canvas.display:
                canvas.update_view(view)
        self._rows.update_rows(view, self.listing.keys)

    def _divide_height(self, state: State) -> None:
        """Divide the height between list, cards and heat map."""
        width, height = self.size
        rows = len(self.listing.keys)
        room = height - 2 - (3 if height >= TALL_MIN_LINES else 1) - bool(self.listing.hidden)
        density = self.density or self._automatic_density(state, rows, room)
        self.set_class(density == "cards", "with-cards")
        self.set_class(density == "heat", "with-heat-map")
        self.set_class(bool(self.listing.hidden), "hiding")
        taken = 0
        if density == "cards":
            taken = min(max(CARDS_MIN_LINES, room - rows - 1), room - min(rows + 1, LIST_MIN_LINES))
        elif density == "heat":
            available = room - min(rows + 1, max(LIST_MIN_LINES, room // 3))
            taken = heat_map_layout(state, width - 2, available).lines
            self.query_one("#heat").styles.height = taken
            taken += height >= TALL_MIN_LINES
        self._rows.styles.height = max(2, min(rows + 1, room - taken))

    def _automatic_density(self, state: State, rows: int, room: int) -> str:
        """The density for the number of devices: of those that match the filter, but faults only still counts all."""
        amount = rows + (0 if self.filter_text else self.listing.healthy)
        has_history = any(device.utilization for node in state.nodes.values() for device in node.devices)
        if has_history and amount and amount + 1 + CARDS_MIN_LINES <= room:
            return "cards"
        return "heat" if amount > 2 * room else "lines"

    def _draw_summary(self, view: View, width: int, height: int) -> Sequence[Strip]:
        density = {"": "", "cards": "curves", "lines": "lines", "heat": "heat map"}[self.density]
        return fleet_summary(view, self.listing, self.fleet_query, len(view.marked), density, width)

    def draw_hidden(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return [hidden_line(self.listing, width)]

    def _draw_heat_map(self, view: View, width: int, height: int) -> Sequence[Strip]:
        """Drawn once a second like the readings, and half a second after the list is sorted, so that no key waits for both."""
        inputs = (int(view.state.at + 0.5), self._nodes_shape, width, height)
        if inputs != self._heat_map[0]:
            self._heat_map = (inputs, heat_lines(view.state, self._use, width, height))
        return self._heat_map[1]

    def _draw_row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        is_named = key in self.listing.named or key == self._rows.top_key
        is_marked = key in view.marked
        return fleet_row(view, self._use, key, width, is_under_cursor=is_under_cursor, is_named=is_named, is_marked=is_marked)

    # Keys -----------------------------------------------------------------------------------------------------------------------

    def action_faults(self) -> None:
        """List faults only, or all devices."""
        self.is_faults_only = not self.is_faults_only
        self.update_view(self.host.view)

    def action_reveal(self) -> None:
        """Show all hidden devices."""
        if not self.listing.hidden:
            self.host.show_notice("nothing is hidden", "ok")
            return
        self.is_faults_only = False
        self.clear_filter()

    def action_mark(self) -> None:
        """Mark the device under the cursor, or remove its mark, and go to the next one."""
        if self._rows.cursor_key is not None:
            self._set_marked(self.host.view.marked ^ {self._rows.cursor_key})
            self._rows.action_move(1)

    def _set_marked(self, marked: frozenset[str]) -> None:
        self.host.view = replace(self.host.view, marked=marked)
        self.update_view(self.host.view)

    def action_density(self) -> None:
        """Switch to the next density."""
        current = "cards" if self.has_class("with-cards") else "heat" if self.has_class("with-heat-map") else "lines"
        self.density = DENSITIES[(DENSITIES.index(current) + 1) % len(DENSITIES)]
        self.update_view(self.host.view)

    async def action_undo(self) -> None:
        """Clear the filter; without one clear the marks; without those go back."""
        if self.host.view.marked and not self._filter_line.text:
            self._set_marked(frozenset())
        else:
            await super().action_undo()

    def on_row_list_selected(self, message: RowList.Selected) -> None:
        self._open_node(message.key)

    def on_click(self, event: Click) -> None:
        """Move the cursor to the device of a clicked cell of the heat map; a double click opens its node."""
        if event.widget is None or event.widget.id != "heat":
            return
        width, height = event.widget.size
        key = device_at(self.host.view.state, width, height, event.x - 1, event.y)
        if key is not None and event.chain == 2:
            self._open_node(key)
        elif key is not None:
            self._rows.move_to(key)

    def _open_node(self, key: str) -> None:
        self.app.push_screen(NodeScreen(key.rpartition(" ")[0]))
