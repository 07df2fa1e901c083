"""How fast each device and link is: the newest profile of every workload, its age and what has drifted since the one before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..views.profiles import ProfileView, device_in_full, link_lines, profile_heading, profile_row, profile_summary, profile_view
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import BaseScreen
from .node import NodeScreen


class ProfilesScreen(BaseScreen):
    """Devices above, the one under the cursor in full, links and machines below."""

    NAME = "profiles"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "workload(-1)", "the workload before", id="profiles.previous"),
        Binding("right", "workload(1)", "the workload after", id="profiles.next"),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("profiles.next", "workload"), *BaseScreen.KEYS)

    def body(self) -> Iterable[Widget]:
        self._workload = ""
        self._shown: ProfileView | None = None
        yield LineCanvas(self._summary, widget_id="summary")
        yield RowList(profile_heading, self._row)
        yield LineCanvas(self._full, "the one under the cursor", "device")
        yield LineCanvas(self._links, "links, sums and machines", "matrix")

    def show(self, view: View) -> None:
        profiles = view.state.profiles
        if self._workload not in profiles:
            self._workload = next(reversed(profiles), "")
        self._shown = profile_view(profiles.get(self._workload))
        for name in ("#device", "#matrix"):
            self.query_one(name).display = self._shown is not None
        amount = len(self._shown.devices) if self._shown is not None else 0
        self.query_one(RowList).tell(view, [str(number) for number in range(amount)])
        super().show(view)

    def _summary(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return profile_summary(view.state, self._shown, len(view.state.profiles), width)

    def _row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        return profile_row(self._shown, key, width, is_under_cursor)

    def _full(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return device_in_full(self._shown, self.query_one(RowList).key or "", width, height)

    def _links(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return link_lines(self._shown, width, height)

    def on_rows_moved(self) -> None:
        self.query_one("#device", LineCanvas).tell(self.deck.view)

    def action_workload(self, step: int) -> None:
        """The profile of another workload."""
        names = list(self.deck.view.state.profiles)
        if self._workload in names:
            self._workload = names[(names.index(self._workload) + step) % len(names)]
            self.show(self.deck.view)

    def on_rows_chosen(self, message: RowList.Chosen) -> None:
        """To the page of its node."""
        if self._shown is not None and message.key.isdecimal() and int(message.key) < len(self._shown.devices):
            self.deck.push_screen(NodeScreen(self._shown.devices[int(message.key)].node))
