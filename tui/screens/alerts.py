"""What went wrong, one line a cause; the one under the cursor in full below, with the ways from it to its log or its run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from paceline.engine.store.selectors import wall_clock
from paceline.engine.store.state import Alert, RunState
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..views.alerts import ALERT_ORDERS, alert_heading, alert_in_full, alert_order, alert_row, alert_subject, alert_summary
from ..widgets.line_canvas import LineCanvas, RowList
from .list_screen import ListScreen
from .logs import show_logs
from .run import show_moment


class AlertsScreen(ListScreen):
    """Trouble of this session. What a person has seen stays known by its key until the session ends."""

    NAME = "alerts"
    EXAMPLE = "state:critical    node:lab[1-3]    straggler    kind:throttle & age<600"
    ORDERS = ALERT_ORDERS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "acknowledge", "seen: let the alert sink, or rise again", id="alerts.seen"),
        Binding("m", "moment", "what happened in its run when it began", id="alerts.moment"),
        Binding("slash", "filter", "filter:  state:critical   node:lab[1-3]   straggler", id="alerts.filter", priority=True),
        Binding("o", "order", "order by something else", id="alerts.order"),
        Binding("r", "reverse", "reverse the order", id="alerts.reverse"),
        Binding("escape", "undo", "clear the filter, else back", id="alerts.undo"),
    ]
    KEYS = (
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

    def body(self) -> Iterable[Widget]:
        self._alerts: dict[str, Alert] = {}
        yield LineCanvas(lambda view, width, height: alert_summary(view, width, self.order), widget_id="summary")
        yield from self.matching(RowList(lambda width: alert_heading(width, self.order), self._row))
        yield LineCanvas(self._full, "the one under the cursor", "full")

    def show(self, view: View) -> None:
        self._alerts = alert_order(view, self.order)
        self.query_one("#full").display = bool(self._alerts)
        keys = self.apply_filter(list(self._alerts), lambda key: alert_subject(view.state, self._alerts[key], key in view.seen))
        self.query_one(RowList).tell(view, keys)
        super().show(view)

    def _row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        return alert_row(view.state, self._alerts[key], key in view.seen, width, is_under_cursor)

    def _full(self, view: View, width: int, height: int) -> Sequence[Strip]:
        key = self.query_one(RowList).key or ""
        return alert_in_full(view.state, self._alerts.get(key), key in view.seen, width, height)

    def on_rows_moved(self) -> None:
        self.query_one("#full", LineCanvas).tell(self.deck.view)

    def action_acknowledge(self) -> None:
        """Seen, or after all not."""
        key = self.query_one(RowList).key
        if key is not None and self._alerts[key].ended_at is None:
            self.deck.view = replace(self.deck.view, seen=self.deck.view.seen ^ {key})
            self.show(self.deck.view)

    def action_moment(self) -> None:
        """To what happened in its run when it began; without a run, a replay goes to that moment all the same."""
        alert = self._alerts.get(self.query_one(RowList).key or "")
        run = self._run_of(alert) if alert is not None else None
        if alert is not None and run is not None:
            show_moment(self.deck, run.run_id, alert.at)
        elif alert is not None and self.deck.session.is_replay:
            self.deck.action_seek(f"{alert.at}")
        elif alert is not None:
            self.deck.show_notice("no run of ours was on this node", "ok")

    def on_rows_chosen(self, message: RowList.Chosen) -> None:
        """To what its rank or node wrote when it began, where that lies here; else to that moment."""
        alert = self._alerts[message.key]
        run = self._run_of(alert)
        if run is None or self.deck.session.logs(run.run_id) is None or not (alert.node or alert.rank is not None):
            self.action_moment()
            return
        node = alert.node or next((rank.node for rank in run.ranks.values() if rank.rank == alert.rank), "")
        show_logs(self.deck, run.run_id, node or None, alert.rank, wall_clock(self.deck.view.state, alert.at))

    def _run_of(self, alert: Alert) -> RunState | None:
        """The run that it hit: its own, else the newest that its node takes part in."""
        runs = self.deck.view.state.runs
        return runs.get(alert.run_id) or next((run for run in reversed(runs.values()) if alert.node in run.nodes), None)
