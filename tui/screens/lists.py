"""The screens that are a list with a cursor: fleet, jobs, alerts. Each is a summary, a heading and rows."""

from __future__ import annotations

from collections.abc import Iterable

from textual.widget import Widget

from ..messages import View
from ..widgets.fleet_rows import fleet_heading, fleet_keys, fleet_row, fleet_summary
from ..widgets.history_cards import history_cards
from ..widgets.list_rows import alert_heading, alert_keys, alert_row, alert_summary, job_heading, job_keys, job_row, job_summary
from ..widgets.sheet import Rows, Sheet
from .deck import Deck

CARDS = 10
"""Lines left under the list from which the curves are drawn."""


class FleetScreen(Deck):
    """Where is trouble, what is free."""

    NAME = "fleet"

    def body(self) -> Iterable[Widget]:
        yield Sheet(fleet_summary, widget_id="summary")
        yield Rows(fleet_heading, fleet_row)
        yield Sheet(history_cards, "utilization", "cards")

    def show(self, view: View) -> None:
        keys = fleet_keys(view.state)
        room = self.size.height - len(keys) - 6
        has_past = any(device.utilization for node in view.state.nodes.values() for device in node.devices)
        self.set_class(has_past and room >= CARDS, "roomy")
        rows = self.query_one(Rows)
        rows.styles.height = len(keys) + 2 if self.has_class("roomy") else "1fr"
        super().show(view)
        rows.tell(view, keys)

    def on_rows_chosen(self, message: Rows.Chosen) -> None:
        self.deck.look_at_device(message.key)


class JobsScreen(Deck):
    """What runs, what ran."""

    NAME = "jobs"

    def body(self) -> Iterable[Widget]:
        yield Sheet(job_summary, widget_id="summary")
        yield Rows(job_heading, job_row)

    def show(self, view: View) -> None:
        super().show(view)
        self.query_one(Rows).tell(view, job_keys(view.state))

    @property
    def run_id(self) -> str:
        """The run under the cursor."""
        return self.query_one(Rows).key or ""

    def on_rows_chosen(self, message: Rows.Chosen) -> None:
        self.deck.look_at(message.key)


class AlertsScreen(Deck):
    """What went wrong, one line a cause."""

    NAME = "alerts"

    def body(self) -> Iterable[Widget]:
        yield Sheet(alert_summary, widget_id="summary")
        yield Rows(alert_heading, alert_row)

    def show(self, view: View) -> None:
        super().show(view)
        self.query_one(Rows).tell(view, alert_keys(view.state))
