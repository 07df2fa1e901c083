"""The table people came for."""

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
from ..widgets.line_canvas import WRITTEN, LineCanvas
from .base_screen import BaseScreen

LONGEST = 10_000
"""Lines a table may have."""


class ResultsScreen(BaseScreen):
    """The result of the run in hand, or its cases so far."""

    NAME = "results"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "run(-1)", "the run before", id="results.previous"),
        Binding("right", "run(1)", "the run after", id="results.next"),
        Binding("j,down", "turn(1)", "down", show=False, id="results.down"),
        Binding("k,up", "turn(-1)", "up", show=False, id="results.up"),
        Binding("pagedown", "turn(10)", "page down", show=False, id="results.pagedown"),
        Binding("pageup", "turn(-10)", "page up", show=False, id="results.pageup"),
    ]

    def body(self) -> Iterable[Widget]:
        with VerticalScroll(id="page"):
            yield LineCanvas(result_lines, widget_id="results")
        yield LineCanvas(throughput_chart, "throughput over the run, samples/s", "course")

    def show(self, view: View) -> None:
        sheet = self.query_one("#results")
        sheet.styles.height = len(result_lines(view, max(1, sheet.size.width), LONGEST))
        super().show(view)

    def listed(self) -> str:
        """The tables as text."""
        strips = result_lines(self.deck.view, WRITTEN, LONGEST) if result_runs(self.deck.view) else []
        return "".join(f"{strip.text.rstrip()}\n" for strip in strips)

    def action_turn(self, lines: int) -> None:
        """Scroll, where the tables are longer than the screen."""
        self.query_one("#page").scroll_relative(y=lines, animate=False)

    def action_run(self, step: int) -> None:
        """Show the result of another run."""
        view = self.deck.view
        runs, shown = result_runs(view), shown_run(view)
        if shown is not None and shown.run_id in runs:
            place = min(max(0, runs.index(shown.run_id) + step), len(runs) - 1)
            self.deck.view = replace(view, run_id=runs[place])
            self.show(self.deck.view)
