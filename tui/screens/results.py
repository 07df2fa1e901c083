"""The Results screen: the table of a run's result and its throughput chart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget

from ..messages import View
from ..views.results.table import result_lines, result_runs, shown_run
from ..views.run.charts import throughput_chart
from ..widgets.line_canvas import EXPORT_COLUMNS, LineCanvas
from .base_screen import BaseScreen

MAX_TABLE_LINES = 10_000
"""Lines of the tables that are drawn; the page scrolls over them."""


class ResultsScreen(BaseScreen):
    """The result of the chosen run, or its cases so far."""

    NAME = "results"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "run(-1)", "the run before", id="results.previous"),
        Binding("right", "run(1)", "the run after", id="results.next"),
        Binding("j,down", "scroll_lines(1)", "down", show=False, id="results.down"),
        Binding("k,up", "scroll_lines(-1)", "up", show=False, id="results.up"),
        Binding("pagedown", "scroll_lines(10)", "page down", show=False, id="results.pagedown"),
        Binding("pageup", "scroll_lines(-10)", "page up", show=False, id="results.pageup"),
    ]

    def compose_body(self) -> Iterable[Widget]:
        with VerticalScroll(id="page"):
            yield LineCanvas(result_lines, widget_id="results")
        yield LineCanvas(throughput_chart, "throughput over the run, samples/s", "course")

    def update_view(self, view: View) -> None:
        sheet = self.query_one("#results")
        sheet.styles.height = len(result_lines(view, max(1, sheet.size.width), MAX_TABLE_LINES))
        super().update_view(view)

    def export_text(self) -> str:
        """The tables as text."""
        strips = result_lines(self.host.view, EXPORT_COLUMNS, MAX_TABLE_LINES) if result_runs(self.host.view) else []
        return "".join(f"{strip.text.rstrip()}\n" for strip in strips)

    def action_scroll_lines(self, lines: int) -> None:
        """Scroll the tables."""
        self.query_one("#page").scroll_relative(y=lines, animate=False)

    def action_run(self, step: int) -> None:
        """Show the result of another run."""
        view = self.host.view
        runs, shown = result_runs(view), shown_run(view)
        if shown is not None and shown.run_id in runs:
            index = min(max(0, runs.index(shown.run_id) + step), len(runs) - 1)
            self.host.view = replace(view, run_id=runs[index])
            self.update_view(self.host.view)
