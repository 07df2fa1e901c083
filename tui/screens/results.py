"""The Results screen: the tables of a run's result, its throughput, and its loss and metrics over the epochs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..views.results.curves import curve_charts, curve_table, page_charts, result_charts
from ..views.results.table import result_data, result_lines, result_runs, shown_run
from ..views.run.charts import throughput_chart
from ..widgets.line_canvas import EXPORT_COLUMNS, LineCanvas
from .base_screen import TALL_MIN_LINES, BaseScreen

MAX_TABLE_LINES = 10_000
"""Lines of the tables that are drawn; the page scrolls over them."""
PANEL_CHARTS = 2
"""Charts by epoch beside that of the throughput, in large terminals; the others are at the end of the page."""
WIDE_MIN_COLUMNS = 110
"""Width of the terminal from which charts stand side by side: Textual's class ``-wide``."""


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
            yield LineCanvas(self._draw_page, widget_id="results")
        with Horizontal(id="course"):
            yield LineCanvas(self._draw_throughput, "throughput over the run, samples/s", "course-throughput")
            for number in range(PANEL_CHARTS):
                yield LineCanvas(partial(_draw_chart, number), " ", f"course-{number}")

    def update_view(self, view: View) -> None:
        sheet = self.query_one("#results")
        sheet.styles.height = len(self._draw_page(view, max(1, sheet.size.width), MAX_TABLE_LINES))
        charts = curve_charts(shown_run(view))
        for number in range(PANEL_CHARTS):
            canvas = self.query_one(f"#course-{number}")
            canvas.display = number < max(1, len(charts))
            # A script chose the name of a metric: nothing in it is markup.
            canvas.border_title = Content(f"{charts[number].title if number < len(charts) else 'loss'}, by epoch")
        super().update_view(view)

    @property
    def _panel_charts(self) -> int:
        """Number of charts by epoch in the panel: none in a small terminal, where the page has them all."""
        width, height = self.size
        return PANEL_CHARTS if height >= TALL_MIN_LINES and width >= WIDE_MIN_COLUMNS else 0

    def _draw_page(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return [*result_lines(view, width, height), *page_charts(view, self._panel_charts, width)]

    def _draw_throughput(self, view: View, width: int, height: int) -> Sequence[Strip]:
        run = shown_run(view)
        return throughput_chart(replace(view, run_id=run.run_id) if run is not None else view, width, height)

    def export_text(self) -> str:
        """The tables as text."""
        strips = result_lines(self.host.view, EXPORT_COLUMNS, MAX_TABLE_LINES) if result_runs(self.host.view) else []
        return "".join(f"{strip.text.rstrip()}\n" for strip in strips)

    def export_table(self) -> Sequence[Sequence[object]]:
        return result_data(shown_run(self.host.view))

    def export_curves(self) -> Sequence[Sequence[object]]:
        return curve_table(shown_run(self.host.view))

    def action_scroll_lines(self, lines: int) -> None:
        """Scroll the tables."""
        self.query_one("#page").scroll_relative(y=lines, animate=False)

    def action_run(self, step: int) -> None:
        """Show the result of another run; one of an earlier session is read first."""
        view = self.host.view
        runs, shown = result_runs(view), shown_run(view)
        if shown is not None and shown.run_id in runs:
            index = min(max(0, runs.index(shown.run_id) + step), len(runs) - 1)
            self.host.call_later(self.host.action_visit, "results", runs[index])


def _draw_chart(number: int, view: View, width: int, height: int) -> Sequence[Strip]:
    return result_charts(view, number, width, height)
