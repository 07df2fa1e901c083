"""The fleet: where is trouble, what is free. A list of devices, with curves or a heat map where that says more."""

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
from ..views.fleet.device_facts import Scene, scene_of
from ..views.fleet.heat_map import device_at, heat_lines, layout
from ..views.fleet.history_cards import history_cards
from ..views.fleet.order import ORDERS, FleetQuery, Listing, arrange
from ..views.fleet.rows import fleet_heading, fleet_row, fleet_summary, hidden_line
from ..widgets.filter_line import FilterLine
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import BaseScreen
from .node import NodeScreen

CARDS = 10
"""Lines left under the list from which the curves are drawn."""
LEAST = 9
"""Lines that the list keeps beside anything else, its heading among them."""
TALL = 34
"""Lines from which the summary has air around it."""
DENSITIES = ("cards", "lines", "heat")
"""Few devices, some, hundreds: chosen by the room there is, unless a person chooses."""


class FleetScreen(BaseScreen):
    """Every device of every node, the worst first."""

    NAME = "fleet"
    KEYS = (
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
        Binding("slash", "filter", "filter:  util<20 & free   job:*   node:lab[1-3]", id="fleet.filter", priority=True),
        Binding("f", "faults", "faults only, or all", id="fleet.faults"),
        Binding("x", "reveal", "show what is hidden", id="fleet.reveal"),
        Binding("o", "order", "order by something else", id="fleet.order"),
        Binding("r", "reverse", "reverse the order", id="fleet.reverse"),
        Binding("space", "mark", "mark a device: + starts a job on those marked", id="fleet.mark"),
        Binding("d", "density", "curves, lines or heat map", id="fleet.density"),
        Binding("escape", "undo", "clear the filter, then the marks, else back", id="fleet.undo"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.wish = FleetQuery()
        self.listing = Listing()
        self.density = ""
        """As a person chose it; empty: by itself."""
        self._view: View | None = None
        self._scene = Scene({}, frozenset())
        self._runs: object = None
        self._shape: object = None
        self._stamp: object = None
        self._heat: tuple[object, Sequence[Strip]] = (None, ())
        self._rows = RowList(lambda width: fleet_heading(width, self.wish), self._row)
        self._filter = FilterLine()

    def body(self) -> Iterable[Widget]:
        yield LineCanvas(self._summary, widget_id="summary")
        yield LineCanvas(self._map, widget_id="heat")
        yield self._rows
        yield LineCanvas(lambda view, width, height: [hidden_line(self.listing, width)], widget_id="hidden")
        yield LineCanvas(
            lambda view, width, height: history_cards(view, self.listing.keys, width, height), "utilization", widget_id="cards"
        )
        yield self._filter

    # What is drawn --------------------------------------------------------------------------------------------------------------

    def show(self, view: View) -> None:
        self._view = view
        state = view.state
        if state.runs is not self._runs:
            self._runs, self._scene = state.runs, scene_of(state)
        # Sorting 2,048 devices at each frame would cost more than drawing those that are seen.
        self._shape = tuple((node.name, node.state, len(node.devices)) for node in state.nodes.values())
        stamp = (int(state.at), self.wish, self._shape)
        if stamp != self._stamp:
            self._stamp, self.listing = stamp, arrange(state, self._scene, self.wish)
        self._share(state)
        for sheet in self.query(LineCanvas):
            if sheet.display:
                sheet.tell(view)
        self._rows.tell(view, self.listing.keys)

    def _share(self, state: State) -> None:
        """Give list, curves and map their part of the screen."""
        width, height = self.size
        rows = len(self.listing.keys)
        room = height - 2 - (3 if height >= TALL else 1) - bool(self.listing.hidden)
        density = self.density or self._fitting(state, rows, room)
        self.set_class(density == "cards", "roomy")
        self.set_class(density == "heat", "hot")
        self.set_class(bool(self.listing.hidden), "hiding")
        taken = 0
        if density == "cards":
            taken = min(max(CARDS, room - rows - 1), room - min(rows + 1, LEAST))
        elif density == "heat":
            most = room - min(rows + 1, max(LEAST, room // 3))
            taken = layout(state, width - 2, most).lines
            self.query_one("#heat").styles.height = taken
            taken += height >= TALL
        self._rows.styles.height = max(2, min(rows + 1, room - taken))

    def _fitting(self, state: State, rows: int, room: int) -> str:
        """The density that suits the number of devices; a filter leaves few, faults only leaves the map of all."""
        amount = rows + (0 if self.wish.text else self.listing.healthy)
        has_past = any(device.utilization for node in state.nodes.values() for device in node.devices)
        if has_past and amount and amount + 1 + CARDS <= room:
            return "cards"
        return "heat" if amount > 2 * room else "lines"

    def _summary(self, view: View, width: int, height: int) -> Sequence[Strip]:
        chosen = {"": "", "cards": "curves", "lines": "lines", "heat": "heat map"}[self.density]
        return fleet_summary(view, self.listing, self.wish, len(view.marked), chosen, width)

    def _map(self, view: View, width: int, height: int) -> Sequence[Strip]:
        """Drawn once a second, as readings come; half a second after the list is sorted, so that no key waits for both."""
        stamp = (int(view.state.at + 0.5), self._shape, width, height)
        if stamp != self._heat[0]:
            self._heat = (stamp, heat_lines(view.state, self._scene, width, height))
        return self._heat[1]

    def _row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        is_named = key in self.listing.named or key == self._rows.top_key
        return fleet_row(view, self._scene, key, width, is_under_cursor, is_named, key in view.marked)

    # What the keys do -----------------------------------------------------------------------------------------------------------

    def _wish(self, wish: FleetQuery) -> None:
        """Obey at once, without waiting for the next reading."""
        self.wish = wish
        if self._view is not None:
            self.show(self._view)

    def action_filter(self) -> None:
        self._filter.ask()

    def on_filter_line_typed(self, message: FilterLine.Typed) -> None:
        self._wish(replace(self.wish, text=message.text, passes=message.passes))

    def action_faults(self) -> None:
        self._wish(replace(self.wish, is_faults_only=not self.wish.is_faults_only))

    def action_reveal(self) -> None:
        if not self.listing.hidden:
            self.deck.show_notice("nothing is hidden", "ok")
            return
        self._filter.clear()
        self._wish(replace(self.wish, is_faults_only=False, text="", passes=None))

    def action_order(self) -> None:
        place = ORDERS.index(self.wish.order) + 1
        self._wish(replace(self.wish, order=ORDERS[place % len(ORDERS)]))

    def action_sort(self, order: str) -> None:
        """By a column whose heading was clicked; once more: the other way round."""
        is_again = self.wish.order == order
        self._wish(replace(self.wish, order=order, is_reversed=is_again and not self.wish.is_reversed))

    def action_reverse(self) -> None:
        self._wish(replace(self.wish, is_reversed=not self.wish.is_reversed))

    def action_mark(self) -> None:
        if self._rows.key is not None:
            self._mark(self.deck.view.marked ^ {self._rows.key})
            self._rows.action_move(1)

    def _mark(self, marked: frozenset[str]) -> None:
        self.deck.view = replace(self.deck.view, marked=marked)
        self.show(self.deck.view)

    def action_density(self) -> None:
        shown = "cards" if self.has_class("roomy") else "heat" if self.has_class("hot") else "lines"
        self.density = DENSITIES[(DENSITIES.index(shown) + 1) % len(DENSITIES)]
        self._wish(self.wish)

    async def action_undo(self) -> None:
        if self.wish.text:
            self._filter.clear()
        elif self.deck.view.marked:
            self._mark(frozenset())
        else:
            await self.deck.action_back()

    def on_rows_chosen(self, message: RowList.Chosen) -> None:
        self._open(message.key)

    def on_click(self, event: Click) -> None:
        """A cell of the map puts the cursor on its device, and twice opens its node."""
        if event.widget is None or event.widget.id != "heat" or self._view is None:
            return
        width, height = event.widget.size
        key = device_at(self._view.state, width, height, event.x - 1, event.y)
        if key is not None and event.chain == 2:
            self._open(key)
        elif key is not None:
            self._rows.go_to(key)

    def _open(self, key: str) -> None:
        self.deck.push_screen(NodeScreen(key.rpartition(" ")[0]))
