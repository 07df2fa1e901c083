"""The list of runs, and where there is room the run under the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from paceline.engine.store.state import WAITING
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..views.job_pane import job_pane
from ..views.jobs import JOB_ORDERS, job_heading, job_keys, job_row, job_subject, job_summary
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import FRAMED
from .list_screen import ListScreen


class JobsScreen(ListScreen):
    """What waits, what runs, what ran."""

    NAME = "jobs"
    ORDERS = JOB_ORDERS
    EXAMPLE = "state:failed    node:lab[1-3]    busy & straggler    digits"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter:  state:failed   node:lab[1-3]   busy", id="jobs.filter", priority=True),
        Binding("o", "order", "order by something else", id="jobs.order"),
        Binding("r", "reverse", "reverse the order", id="jobs.reverse"),
        Binding("escape", "undo", "clear the filter, else back", id="jobs.undo"),
    ]

    KEYS = (
        ("command", "command"),
        ("jobs.filter", "filter"),
        ("jobs.order", "order"),
        ("list.choose", "its run"),
        ("cancel", "cancel"),
        ("help", "help"),
        ("quit", "quit"),
        ("start", "start"),
        ("pause", "pause"),
        ("export", "export"),
        ("picture", "picture"),
    )

    def body(self) -> Iterable[Widget]:
        yield LineCanvas(lambda view, width, height: job_summary(view, width, self.order), widget_id="summary")
        yield from self.matching(RowList(lambda width: job_heading(width, self.order), job_row))
        yield LineCanvas(self._chosen, "run", "chosen")

    def show(self, view: View) -> None:
        state = view.state
        keys = self.apply_filter(job_keys(state, self.order), lambda key: job_subject(state, key))
        self.set_class(bool(keys), "choosing")
        rows = self.query_one(RowList)
        rows.styles.height = min(len(keys) + 1, self.size.height // 3) if keys and self.size.height >= FRAMED else "1fr"
        rows.tell(view, keys)
        super().show(view)

    def _chosen(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return job_pane(view, self.run_id, width, height)

    def on_rows_moved(self) -> None:
        super().show(self.deck.view)

    @property
    def run_id(self) -> str:
        """The run under the cursor; ``waiting``: the job that waits for devices."""
        return self.query_one(RowList).key or ""

    def on_rows_chosen(self, message: RowList.Chosen) -> None:
        if message.key == WAITING:
            self.deck.show_notice("it is no run yet: it starts by itself when its devices are free, C gives up waiting", "ok")
            return
        self.deck.look_at(message.key)
        run = self.deck.view.state.runs.get(message.key)
        if run is not None and not run.ranks and not self.deck.view.is_replay:  # nobody follows it here
            self.deck.execute(f"attach {message.key}")
