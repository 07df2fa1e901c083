"""The list of runs: a summary, a heading and rows."""

from __future__ import annotations

from collections.abc import Iterable

from textual.widget import Widget

from ..messages import View
from ..widgets.list_rows import job_heading, job_keys, job_row, job_summary
from ..widgets.sheet import Rows, Sheet
from .deck import Deck


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
        run = self.deck.view.state.runs.get(message.key)
        if run is not None and not run.ranks and not self.deck.view.is_replay:  # nobody follows it here
            self.deck.obey(f"attach {message.key}")
