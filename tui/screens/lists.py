"""The list of runs: a summary, a heading and rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from ..messages import View
from ..widgets.list_rows import job_heading, job_keys, job_row, job_subject, job_summary
from ..widgets.sheet import Rows, Sheet
from .sifted import Sifted


class JobsScreen(Sifted):
    """What runs, what ran."""

    NAME = "jobs"
    EXAMPLE = "state:failed    node:lab[1-3]    busy & straggler    digits"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter:  state:failed   node:lab[1-3]   busy", id="jobs.filter"),
        Binding("escape", "undo", "clear the filter, else back", id="jobs.undo"),
    ]

    def body(self) -> Iterable[Widget]:
        yield Sheet(job_summary, widget_id="summary")
        yield from self.sifted(Rows(job_heading, job_row))

    def show(self, view: View) -> None:
        state = view.state
        keys = self.sift(job_keys(state), lambda key: job_subject(state, state.runs[key]))
        super().show(view)
        self.query_one(Rows).tell(view, keys)

    @property
    def run_id(self) -> str:
        """The run under the cursor."""
        return self.query_one(Rows).key or ""

    def on_rows_chosen(self, message: Rows.Chosen) -> None:
        self.deck.look_at(message.key)
        run = self.deck.view.state.runs.get(message.key)
        if run is not None and not run.ranks and not self.deck.view.is_replay:  # nobody follows it here
            self.deck.obey(f"attach {message.key}")
