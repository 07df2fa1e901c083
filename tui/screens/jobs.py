"""The Jobs screen: the list of runs, and in tall terminals the run under the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from paceline.engine.store.state import WAITING_JOB_ID
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..views.job_pane import job_pane
from ..views.jobs import JOB_ORDERS, job_fields, job_heading, job_keys, job_row, job_summary, job_table
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import TALL_MIN_LINES
from .list_screen import ListScreen, list_bindings
from .logs import show_logs


class JobsScreen(ListScreen):
    """Waiting, active and ended runs."""

    NAME = "jobs"
    ORDERS = JOB_ORDERS
    FILTER_EXAMPLE = "state:failed    node:lab[1-3]    busy & straggler    digits"
    BINDINGS: ClassVar[list[BindingType]] = [
        *list_bindings("jobs", "state:failed   node:lab[1-3]   busy"),
        Binding("l", "log", "its log", id="jobs.log"),
    ]

    FOOTER_KEYS = (
        ("command", "command"),
        ("jobs.filter", "filter"),
        ("jobs.order", "order"),
        ("list.choose", "its run"),
        ("jobs.log", "log"),
        ("cancel", "cancel"),
        ("help", "help"),
        ("resume", "resume"),
        ("quit", "quit"),
        ("start", "start"),
        ("pause", "pause"),
        ("export", "export"),
        ("picture", "picture"),
    )

    def compose_body(self) -> Iterable[Widget]:
        yield LineCanvas(lambda view, width, height: job_summary(view, width, self.order), widget_id="summary")
        yield from self.compose_list(RowList(lambda width: job_heading(width, self.order), job_row))
        yield LineCanvas(self._draw_job_pane, "run", "chosen")

    def update_view(self, view: View) -> None:
        state = view.state
        keys = self.filtered_keys(job_keys(state, self.order), lambda key: job_fields(state, key))
        self.set_class(bool(keys), "choosing")
        rows = self.query_one(RowList)
        rows.styles.height = min(len(keys) + 1, self.size.height // 3) if keys and self.size.height >= TALL_MIN_LINES else "1fr"
        rows.update_rows(view, keys)
        super().update_view(view)

    def _draw_job_pane(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return job_pane(view, self.run_id, width, height)

    def on_row_list_highlighted(self) -> None:
        super().update_view(self.host.view)

    @property
    def run_id(self) -> str:
        """The run under the cursor; ``waiting`` for the job that waits for devices."""
        return self.query_one(RowList).cursor_key or ""

    def action_log(self) -> None:
        """Show the log of the run under the cursor."""
        if self.host.view.state.runs.get(self.run_id) is not None:
            show_logs(self.host, self.run_id)

    def export_table(self) -> Sequence[Sequence[object]]:
        return job_table(self.host.view.state, self.query_one(RowList).keys)

    def on_row_list_selected(self, message: RowList.Selected) -> None:
        if message.key == WAITING_JOB_ID:
            self.host.show_notice("not a run yet: it starts by itself when its devices are free; C stops waiting", "ok")
            return
        self.host.show_run(message.key)
        run = self.host.view.state.runs.get(message.key)
        if run is not None and not run.ranks and not run.is_over and not self.host.view.is_replay:  # nobody follows it here yet
            self.host.execute(f"attach {message.key}")
