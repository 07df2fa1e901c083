"""The Alerts screen: one line an alert, details of the one under the cursor, and ways to its log or its run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from paceline.engine.jobs.logs.line_index import LineFilter
from paceline.engine.store.selectors import wall_clock
from paceline.engine.store.state import Alert, RunState
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..sessions.session import has_logs
from ..views.alerts import (
    ALERT_ORDERS,
    alert_detail,
    alert_fields,
    alert_heading,
    alert_row,
    alert_summary,
    alert_table,
    ordered_alerts,
)
from ..widgets.line_canvas import LineCanvas, RowList
from .list_screen import ListScreen, list_bindings
from .logs import show_logs
from .run import show_moment


class AlertsScreen(ListScreen):
    """Alerts of this session. Acknowledged alerts are remembered until the session ends."""

    NAME = "alerts"
    FILTER_EXAMPLE = "state:critical    node:lab[1-3]    straggler    kind:throttle & age<600"
    ORDERS = ALERT_ORDERS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "acknowledge", "acknowledge the alert, or take that back", id="alerts.seen"),
        Binding("m", "moment", "what happened in its run when it began", id="alerts.moment"),
        *list_bindings("alerts", "state:critical   node:lab[1-3]   straggler"),
    ]
    FOOTER_KEYS = (
        ("alerts.seen", "seen"),
        ("list.choose", "its log"),
        ("alerts.filter", "filter"),
        ("alerts.order", "order"),
        ("command", "command"),
        ("help", "help"),
        ("quit", "quit"),
        ("start", "start"),
        ("pause", "pause"),
        ("cancel", "cancel"),
        ("export", "export"),
        ("picture", "picture"),
    )

    def compose_body(self) -> Iterable[Widget]:
        self._alerts: dict[str, Alert] = {}
        yield LineCanvas(lambda view, width, height: alert_summary(view, width, self.order), widget_id="summary")
        yield from self.compose_list(RowList(lambda width: alert_heading(width, self.order), self._draw_row))
        yield LineCanvas(self._draw_detail, "the one under the cursor", "full")

    def update_view(self, view: View) -> None:
        self._alerts = ordered_alerts(view, self.order)
        self.query_one("#full").display = bool(self._alerts)
        keys = self.filtered_keys(
            list(self._alerts), lambda key: alert_fields(view.state, self._alerts[key], key in view.acknowledged)
        )
        self.query_one(RowList).update_rows(view, keys)
        super().update_view(view)

    def _draw_row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        return alert_row(view.state, self._alerts[key], key in view.acknowledged, width, is_under_cursor)

    def _draw_detail(self, view: View, width: int, height: int) -> Sequence[Strip]:
        key = self.query_one(RowList).cursor_key or ""
        return alert_detail(view.state, self._alerts.get(key), key in view.acknowledged, width, height)

    def export_table(self) -> Sequence[Sequence[object]]:
        return alert_table(self.host.view, [self._alerts[key] for key in self.query_one(RowList).keys])

    def on_row_list_highlighted(self) -> None:
        self.query_one("#full", LineCanvas).update_view(self.host.view)

    def action_acknowledge(self) -> None:
        """Acknowledge the alert under the cursor, or take that back."""
        key = self.query_one(RowList).cursor_key
        if key is not None and self._alerts[key].ended_at is None:
            self.host.view = replace(self.host.view, acknowledged=self.host.view.acknowledged ^ {key})
            self.update_view(self.host.view)

    def action_moment(self) -> None:
        """Show what happened in the alert's run when it began; a replay seeks there even without a run."""
        alert = self._alerts.get(self.query_one(RowList).cursor_key or "")
        run = self._run_of(alert) if alert is not None else None
        if alert is not None and run is not None:
            show_moment(self.host, run.run_id, alert.at)
        elif alert is not None and self.host.session.is_replay:
            self.host.action_seek(f"{alert.at}")
        elif alert is not None:
            self.host.show_notice("no run of Paceline used this node", "ok")

    def on_row_list_selected(self, message: RowList.Selected) -> None:
        """Open the log of the alert's rank or node at the time it began where available; else show that moment."""
        alert = self._alerts[message.key]
        run = self._run_of(alert)
        if run is None or not has_logs(self.host.session, run.run_id) or not (alert.node or alert.rank is not None):
            self.action_moment()
            return
        node = alert.node or next((rank.node for rank in run.ranks.values() if rank.rank == alert.rank), "")
        wanted = LineFilter(node or None, alert.rank)
        show_logs(self.host, run.run_id, wanted, wall_clock(self.host.view.state, alert.at))

    def _run_of(self, alert: Alert) -> RunState | None:
        """The run of an alert: its own, else the newest with its node."""
        runs = self.host.view.state.runs
        return runs.get(alert.run_id) or next((run for run in reversed(runs.values()) if alert.node in run.nodes), None)
