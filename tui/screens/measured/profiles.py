"""The Profiles screen: the newest profile of every workload, its age and its drift since the previous one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from ...messages import View
from ...views.profiles import (
    ProfileView,
    device_detail,
    link_lines,
    profile_heading,
    profile_row,
    profile_summary,
    profile_table,
    profile_view,
)
from ...widgets.line_canvas import LineCanvas, RowList
from ..base_screen import PANELS_MIN_LINES, BaseScreen
from ..node import NodeScreen


class ProfilesScreen(BaseScreen):
    """Devices, details of the one under the cursor, links and machines."""

    NAME = "profiles"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "workload(-1)", "the workload before", id="profiles.previous"),
        Binding("right", "workload(1)", "the workload after", id="profiles.next"),
    ]
    FOOTER_KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("profiles.next", "workload"), *BaseScreen.FOOTER_KEYS)

    def compose_body(self) -> Iterable[Widget]:
        self._workload = ""
        self._profile: ProfileView | None = None
        yield LineCanvas(self._draw_summary, widget_id="summary")
        yield RowList(profile_heading, self._draw_row)
        yield LineCanvas(self._draw_device, "the one under the cursor", "device")
        yield LineCanvas(self._draw_links, "links, sums and machines", "matrix")

    def update_view(self, view: View) -> None:
        profiles = view.state.profiles
        if self._workload not in profiles:
            self._workload = next(reversed(profiles), "")
        self._profile = profile_view(profiles.get(self._workload))
        self.query_one("#device").display = self._profile is not None
        self.query_one("#matrix").display = self._profile is not None and self.size.height >= PANELS_MIN_LINES
        amount = len(self._profile.devices) if self._profile is not None else 0
        self.query_one(RowList).update_rows(view, [str(number) for number in range(amount)])
        super().update_view(view)

    def export_table(self) -> Sequence[Sequence[object]]:
        return profile_table(self._profile)

    def _draw_summary(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return profile_summary(view.state, self._profile, len(view.state.profiles), width)

    def _draw_row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        return profile_row(self._profile, key, width, is_under_cursor)

    def _draw_device(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return device_detail(self._profile, self.query_one(RowList).cursor_key or "", width, height)

    def _draw_links(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return link_lines(self._profile, width, height)

    def on_row_list_highlighted(self) -> None:
        self.query_one("#device", LineCanvas).update_view(self.host.view)

    def action_workload(self, step: int) -> None:
        """Show the profile of another workload."""
        names = list(self.host.view.state.profiles)
        if self._workload in names:
            self._workload = names[(names.index(self._workload) + step) % len(names)]
            self.update_view(self.host.view)

    def on_row_list_selected(self, message: RowList.Selected) -> None:
        """Open the page of the device's node."""
        if self._profile is not None and message.key.isdecimal() and int(message.key) < len(self._profile.devices):
            self.app.push_screen(NodeScreen(self._profile.devices[int(message.key)].node))
